//go:build unix && !linux

package local

import (
	"os/exec"
	"syscall"
	"time"
)

// attach gives the process its own group. Its end with the parent rests on its standard input alone.
func attach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// processTime is not known here: the caller takes what the server reports.
func processTime(int) (time.Duration, bool) { return 0, false }
