// Package process runs programs of this repository for the demo, the trial against real accounts and, through package
// processtest, for tests: it starts one, reads what it prints, and stops it as ECS does.
//
// It never builds a program, package build does, and never restarts one.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take after SIGTERM.
const stopTimeout = 30 * time.Second

// A Process runs until it ends by itself or is stopped.
type Process struct {
	Output // of the streams that the command leaves to Start

	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs a command. Its environment is empty unless cmd.Env is set. Each line that it prints to a stream which cmd does
// not redirect goes to onLine, unless that is nil.
func Start(name string, cmd *exec.Cmd, onLine func(string)) (*Process, error) {
	p := &Process{name: name, cmd: cmd, done: make(chan struct{})}
	p.onLine = onLine
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.Output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.Output
	}
	cmd.WaitDelay = time.Second // a child of its own may hold the pipe for longer
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and all that it printed was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process is Done.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Err says how the process ended, nil for status 0. It waits until Done.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// State says how the process ended. It waits until Done.
func (p *Process) State() *os.ProcessState {
	<-p.done
	return p.cmd.ProcessState
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process with SIGKILL, and waits.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the process as ECS does, and returns an error if it did not end well.
func (p *Process) Stop() error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", p.name, stopTimeout)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %w", p.LastWords(), p.err)
	}
	return nil
}

// LastWords are the last lines that the process printed, which say why something did not happen.
func (p *Process) LastWords() error {
	lines := p.Lines(0)
	return fmt.Errorf("the last lines of %s:\n  %s", p.name, strings.Join(lines[max(0, len(lines)-30):], "\n  "))
}

// A Group is processes that stop together.
type Group []*Process

// Stop stops the processes, the last one first, and forgets them.
func (g *Group) Stop() error {
	var errs []error
	for len(*g) > 0 {
		last := len(*g) - 1
		errs = append(errs, (*g)[last].Stop())
		*g = (*g)[:last]
	}
	return errors.Join(errs...)
}

// LastWords are the last lines of each process.
func (g Group) LastWords() error {
	var all []error
	for _, p := range g {
		all = append(all, p.LastWords())
	}
	return errors.Join(all...)
}
