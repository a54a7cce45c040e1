//go:build faults

package faults

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is one of ours and what it has printed.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	err  error // once done

	mu   sync.Mutex
	text bytes.Buffer
}

// start runs a program with nothing of this process's environment.
func start(t *testing.T, path string, environ, args []string, attr *syscall.SysProcAttr) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Env = environ
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = attr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			lines := p.lines(0)
			t.Logf("the last lines of %s %v:\n%s", path, args, strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
	return p
}

// Write takes what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// lines are those printed since a mark.
func (p *process) lines(since mark) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(string(p.text.Bytes()[since:]), "\n")
}

// A mark is a place in what a process prints.
type mark int

func (p *process) mark() mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mark(p.text.Len())
}

// said reports whether a line since the mark has all of the pieces.
func (p *process) said(since mark, pieces ...string) bool {
	return p.count(since, pieces...) > 0
}

func (p *process) count(since mark, pieces ...string) (n int) {
	for _, line := range p.lines(since) {
		lacks := func(piece string) bool { return !strings.Contains(line, piece) }
		if !slices.ContainsFunc(pieces, lacks) {
			n++
		}
	}
	return n
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process as ECS does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.t.Fatalf("%s did not stop within %v of SIGTERM", p.cmd.Path, timeout)
	}
	if p.err != nil {
		p.t.Fatalf("%s: %v", p.cmd.Path, p.err)
	}
}

// timeout is for an event that takes a second on an idle machine.
const timeout = 60 * time.Second

// eventually waits until a condition holds, and gives how long that took.
func eventually(t *testing.T, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > timeout {
			t.Fatalf("not within %v: %s", timeout, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}
