// Package process runs programs of this repository for the demo, and for the trial against real accounts: it starts one,
// reads its lines, and stops it as ECS does.
//
// It never builds a program, package build does, and never restarts one.
package process

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take after SIGTERM.
const stopTimeout = 10 * time.Second

// keptLines are kept of what a process prints: enough to say why something did not come about.
const keptLines = 200

// A Process runs until it ends by itself or is stopped.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu    sync.Mutex
	lines []string
}

// Start runs a program with this environment and no other. Each line that it prints goes to onLine, unless that is nil.
func Start(name, path string, environ []string, onLine func(string), args ...string) (*Process, error) {
	p := &Process{name: name, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Env = environ
	p.cmd.WaitDelay = time.Second // a child of its own may hold the pipe for longer
	read, write := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		write.Close()
	}()
	go func() {
		defer close(p.done)
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			p.keep(scanner.Text())
			if onLine != nil {
				onLine(scanner.Text())
			}
		}
	}()
	return p, nil
}

func (p *Process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	if len(p.lines) > keptLines {
		p.lines = p.lines[1:]
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and all of its lines were read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process as ECS does, and returns an error if it did not end well.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.name, stopTimeout)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %w", p.LastWords(), p.err)
	}
	return nil
}

// LastWords are what the process printed last, which says why something did not come about.
func (p *Process) LastWords() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.lines[max(0, len(p.lines)-5):]
	return fmt.Errorf("the last lines of %s:\n  %s", p.name, strings.Join(last, "\n  "))
}
