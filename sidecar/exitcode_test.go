package main

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/exec"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// A signal before CMD has started is the exit code, as a shell gives it. Everywhere else it is one error among others.
func TestExitCode_SignalBeforeCMD(t *testing.T) {
	for sig, status := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		if code := exitCode(fmt.Errorf("wrapped: %w", exec.StoppedError{Signal: sig})); code != status {
			t.Errorf("%v: exit code %d, want %d", sig, code, status)
		}
		if code := exitCode(supervise.SignalError{Signal: sig}); code != exitFailed {
			t.Errorf("%v: exit code %d of a context's cause, want %d", sig, code, exitFailed)
		}
	}
}
