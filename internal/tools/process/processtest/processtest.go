// Package processtest runs programs for tests, as package process does for other programs.
package processtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
)

// timeout is for what takes a second or two on an idle machine.
const timeout = 3 * time.Minute

// A Process fails its test where a process.Process has an error.
type Process struct {
	*process.Process
	t testing.TB
}

// Start runs a command until the test ends, which kills it. If the test fails, it shows the last lines of the process.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := process.Start(filepath.Base(cmd.Path), cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(p.LastWords())
		}
	})
	return &Process{p, t}
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// End sends a signal and waits until the process has ended, in whatever way.
func (p *Process) End(s os.Signal) {
	p.t.Helper()
	p.Signal(s)
	p.await()
}

// Stop ends the process as ECS does.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.Process.Stop(); err != nil {
		p.t.Fatal(err)
	}
}

// Wait waits until the process has ended by itself, with status 0, and returns what it printed.
func (p *Process) Wait() string {
	p.t.Helper()
	p.await()
	if err := p.Err(); err != nil {
		p.t.Fatal(err)
	}
	return p.String()
}

func (p *Process) await() {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(timeout):
		p.t.Fatalf("it has not ended within %v", timeout)
	}
}
