package supervise

import (
	"errors"
	"syscall"
)

// SignalName describes a signal: Windows has no names of signals.
func SignalName(s syscall.Signal) string { return s.String() }

// ParseSignal is for systems that run commands here.
func ParseSignal(string) (syscall.Signal, error) {
	return 0, errors.New("write none or restart: Windows has no signals")
}
