package supervise

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the signals that are not passed on.
var kept = []syscall.Signal{
	syscall.SIGKILL, syscall.SIGSTOP, // no process can catch them
	syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, // about this process: its children, Go's own scheduler and profiler
	syscall.SIGPIPE, syscall.SIGTTIN, syscall.SIGTTOU, // what its own reading and writing cause
	syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS, // its own faults
}

// Signals catches every signal that can be passed on, until stop is called. A signal that was ignored from the start, as
// nohup ignores SIGHUP, stays ignored, for the command as well.
func Signals() (signals <-chan os.Signal, stop func()) {
	var all []os.Signal
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		if !slices.Contains(kept, s) && !signal.Ignored(s) {
			all = append(all, s)
		}
	}
	caught := make(chan os.Signal, len(all))
	signal.Notify(caught, all...)
	return caught, func() { signal.Stop(caught) }
}

// A SignalError is the signal that ended a context. Like the cause of [signal.NotifyContext] it is a cancellation.
type SignalError struct{ Signal syscall.Signal }

func (e SignalError) Error() string { return unix.SignalName(e.Signal) + " received" }

// Is reports a cancellation.
func (e SignalError) Is(target error) bool { return target == context.Canceled }

// NotifyContext is a context that SIGTERM or SIGINT ends, with a SignalError as its cause.
func NotifyContext() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		select {
		case s := <-signals:
			cancel(SignalError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
