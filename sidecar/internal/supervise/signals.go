//go:build unix

package supervise

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
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
