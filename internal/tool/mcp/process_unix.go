//go:build unix && !linux

package mcp

import (
	"os/exec"
	"syscall"
)

// setProcess: without a parent-death signal, a server notices by its closed standard input.
func setProcess(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
