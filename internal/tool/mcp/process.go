package mcp

import (
	"context"
	"runtime"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// spawner starts all processes on one thread that lives as long as the pool. The kernel's parent-death
// signal is bound to the thread that started a process, and threads of the Go runtime may end before.
func spawner(work <-chan func()) {
	runtime.LockOSThread() // not unlocked: the thread ends with the pool, and what is left of its servers
	for fn := range work {
		fn()
	}
}

// spawned is a transport whose process starts on the spawner's thread.
type spawned struct {
	inner sdk.Transport
	spawn chan<- func()
}

// Connect starts the process.
func (t *spawned) Connect(ctx context.Context) (conn sdk.Connection, err error) {
	done := make(chan struct{})
	t.spawn <- func() {
		conn, err = t.inner.Connect(ctx)
		close(done)
	}
	<-done
	return conn, err
}
