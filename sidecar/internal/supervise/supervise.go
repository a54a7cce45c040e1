//go:build unix

// Package supervise runs one command as the first process of a container has to: it passes signals on, collects the
// command's orphans, and ends as the command ends. On request it signals the command or restarts it.
//
// It never signals a process that it has waited for, never takes the exit status of a child that other code in this process
// waits for, and knows nothing of keys.
package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

const (
	// slowEnd is how long after SIGTERM the log names a command that has not ended. ECS and the kubelet kill it,
	// and this process, after 30 seconds unless a setting says otherwise.
	slowEnd = 5 * time.Second
	// atOnce is a lifetime so short that the command itself is probably wrong.
	atOnce = time.Second
	// clearWithin bounds the wait for processes that were killed.
	clearWithin = time.Second
)

// Options are the settings of a Supervisor.
type Options struct {
	Path        string   // of the program, as Find gives it
	Args        []string // its name first
	Env         []string
	Signals     <-chan os.Signal // to pass on, from Signals
	OnChange    Change
	StopTimeout time.Duration // of a restart, from SIGTERM to SIGKILL, for the command and its group
	Log         *slog.Logger
}

// A Supervisor runs one command.
type Supervisor struct {
	Options
	changed chan struct{}

	// The fields below belong to the goroutine of Run.
	pid        int
	began      time.Time
	foreground bool
	restarting bool             // SIGTERM was sent for a restart
	ending     syscall.Signal   // from outside; it ends the command for good; 0 if none came
	overdue    <-chan time.Time // when the command should have ended
}

// New makes a Supervisor.
func New(o Options) *Supervisor {
	return &Supervisor{Options: o, changed: make(chan struct{}, 1)}
}

// Change requests the action of OnChange. It does not wait, and many changes are one.
func (s *Supervisor) Change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run starts the command, and returns its status, as a shell would, when it has ended by itself or by a signal from outside.
// It is for the main goroutine, locked to the process's first thread, to which the kernel gives orphans. Its errors are
// *StartError.
func (s *Supervisor) Run() (code int, err error) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	// Without this, a log without a reader would end the process.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)

	adoptOrphans()
	if s.foreground = inForeground(); s.foreground {
		defer takeTerminal()
	}
	if err := s.start(); err != nil {
		return 0, err
	}
	for {
		var passed syscall.Signal
		var changed, overdue bool
		select {
		case <-ended:
		case sig := <-s.Signals:
			passed, _ = sig.(syscall.Signal)
			s.noteEnd(passed)
		case <-s.changed:
			changed = true
		case <-s.overdue:
			overdue, s.overdue = true, nil
		}
		// This comes first: a command that has ended gets no signal, and one that ended by itself is not restarted.
		status, over, left := s.reap()
		switch {
		case over && s.restarting && s.ending == 0 && s.clear():
			if err := s.start(); err != nil {
				return 0, err
			}
		case over:
			return s.report(status, left), nil
		case passed != 0:
			s.signal(passed)
		case changed:
			s.change()
		case overdue:
			s.late()
		}
	}
}

func (s *Supervisor) start() error {
	select {
	case <-s.changed: // the command starts after this change
	default:
	}
	pid, err := syscall.ForkExec(s.Path, s.Args, &syscall.ProcAttr{
		Env:   s.Env,
		Files: []uintptr{0, 1, 2},
		// A group of its own, so that a terminal's SIGINT does not come to it twice: from the
		// terminal and from here.
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: s.foreground},
	})
	if err != nil {
		return explain(s.Path, err)
	}
	s.pid, s.began = pid, time.Now()
	s.restarting, s.overdue = false, nil
	s.Log.Info("command started", "path", s.Path, "pid", pid)
	return nil
}

// noteEnd ends all restarts: a command that a signal from outside ends is not started again. SIGQUIT counts during a restart
// only: at other times many programs, such as Java's, survive it.
func (s *Supervisor) noteEnd(sig syscall.Signal) {
	ends := sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT && s.restarting
	if s.ending != 0 || !ends {
		return
	}
	s.ending = sig
	s.overdue = time.After(slowEnd)
}

// signal signals the command alone, not its group, as if the command were the container's first process.
func (s *Supervisor) signal(sig syscall.Signal) {
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.Log.Error("the command was not signalled", "signal", SignalName(sig), "error", err.Error())
	}
}

func (s *Supervisor) change() {
	switch {
	case s.ending != 0 || s.restarting:
	case s.OnChange.Restart:
		s.Log.Info("command restarts", "pid", s.pid)
		s.restarting = true
		s.overdue = time.After(s.StopTimeout)
		s.signal(syscall.SIGTERM)
	case s.OnChange.Signal != 0:
		s.Log.Info("command signalled", "signal", SignalName(s.OnChange.Signal), "pid", s.pid)
		s.signal(s.OnChange.Signal)
	}
}

// late is for a command that ignores SIGTERM. A restart kills it; at the end of a task ECS does, and at that of a pod the kubelet.
func (s *Supervisor) late() {
	if s.ending != 0 {
		s.Log.Warn("the command goes on after "+SignalName(s.ending), "after", slowEnd.String(), "advice", goesOn())
		return
	}
	s.Log.Warn("command killed: it did not end after SIGTERM", "after", s.StopTimeout.String(), "advice", killedForRestart)
	s.signal(syscall.SIGKILL)
}

// clear ends the rest of the command's process group, so that the next start finds ports and locks free: with SIGTERM, which
// so far only the command has received, and after the timeout with SIGKILL. It reports whether to start again: not if a
// signal from outside has come meanwhile.
func (s *Supervisor) clear() (again bool) {
	killed := s.overdue == nil // the command has used up all of the time
	if killed {
		s.killGroup()
	} else {
		_ = syscall.Kill(-s.pid, syscall.SIGTERM) // none may be left
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for s.ending == 0 && syscall.Kill(-s.pid, 0) == nil {
		select {
		case <-ticker.C:
			s.reap()
		case sig := <-s.Signals:
			s.noteEnd(sig.(syscall.Signal))
		case <-s.overdue:
			if killed {
				return true
			}
			killed = true
			s.Log.Warn("what the command left was killed: it did not end after SIGTERM",
				"after", s.StopTimeout.String(), "advice", killedForRestart)
			s.killGroup()
		}
	}
	for len(s.Signals) > 0 {
		s.noteEnd((<-s.Signals).(syscall.Signal))
	}
	return s.ending == 0
}

func (s *Supervisor) killGroup() {
	_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	s.overdue = time.After(clearWithin)
}

// reap waits for every child that has ended: the command and orphans. It reports whether the command
// is among them, and whether other children go on.
func (s *Supervisor) reap() (status syscall.WaitStatus, over, left bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := waitForChild(s.pid, &ws)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid <= 0:
			return status, over, err == nil
		case pid == s.pid:
			status, over = ws, true
		}
	}
}

// report logs how the command ended and gives its status.
func (s *Supervisor) report(status syscall.WaitStatus, left bool) int {
	code := status.ExitStatus()
	if status.Signaled() {
		code = ExitSignal + int(status.Signal())
	}
	lived := time.Since(s.began)
	attributes := []any{"exit_code", code, "after", lived.Round(time.Millisecond).String()}
	if status.Signaled() {
		attributes = append(attributes, "signal", SignalName(status.Signal()))
	}
	level := slog.LevelInfo
	if do := s.advice(status, lived < atOnce, left); do != "" {
		level = slog.LevelWarn
		attributes = append(attributes, "advice", do)
	}
	s.Log.Log(context.Background(), level, "command ended", attributes...)
	return code
}

// inForeground reports whether this process has the terminal that is its standard input, if any.
func inForeground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// takeTerminal takes the terminal back from a command that has ended, for the process that started this one, such as a
// script.
func takeTerminal() {
	signal.Ignore(syscall.SIGTTOU) // the signal that stops a background process
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, syscall.Getpgrp())
}

const killedForRestart = "have it end at SIGTERM, or raise --stop-timeout"

func goesOn() string {
	here := platform.Here()
	return here.Kills() + ": have it end at SIGTERM (a shell that starts a program does not pass SIGTERM on: start the program with exec), " +
		"or raise " + here.StopTime()
}

func inBackground() string {
	return "its other processes end with this container: run it in the foreground (such as nginx -g 'daemon off;'), " +
		"and with exec if a shell starts it: correct " + platform.Here().Command()
}

func seeItsOutput() string {
	return "what it wrote above says why; correct " + platform.Here().Start()
}

func outOfMemory() string {
	return "if no user killed it, it was out of memory: raise " + platform.Here().Memory()
}

// advice is for a command that ended, "" if it seems to have ended as intended.
func (s *Supervisor) advice(status syscall.WaitStatus, atOnce, left bool) string {
	failed := status.Signaled() || status.ExitStatus() != 0
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return outOfMemory()
	case left && (atOnce || s.ending != 0):
		return inBackground()
	case atOnce && failed && s.ending == 0:
		return seeItsOutput()
	default:
		return ""
	}
}
