// Package local runs models on this machine: it finds GGUF files and a server for them in the cache or on
// PATH, starts one server per file on a free loopback port, watches it, and ends it with its parent.
//
// A server is started by the first call. When it dies it is started again, with growing waits; after
// maxFailures starts in a row that never became healthy it stays down until the next call. Calls to one
// server run one after the other, in the order in which they came: the models are small, the processors
// few, and the processor time of a call can then be told exactly.
//
// The server hears only on 127.0.0.1 and only who knows its key, which is made anew for each start. Its
// standard input is a pipe whose other end is ours: when this process ends, however it ends, the pipe
// closes and the server goes too. On Linux the kernel is asked for the same.
//
// A server gets one thread less than there are processors. The threads of llama.cpp wait for each other
// at every layer, so that one which has lost its processor holds all: on a machine with two processors and
// other work, a call to SmolLM2-135M took 0.35 s to 1.3 s with one thread and 1 s to 11 s with two.
package local
