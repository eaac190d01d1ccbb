// Package openai is a client for servers that speak OpenAI's chat completions: OpenAI itself, the
// compatible doors of others, llama-server, Ollama. It knows the wire and nothing of agents.
//
// Every answer is streamed. A stream counts as whole when the server said [DONE] or gave a finish reason;
// otherwise it is model.interrupted, whatever text came before. Ending the context closes the connection,
// so that the server stops to compute.
package openai
