//go:build unix

package supervise

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalName is the name of a signal, such as SIGTERM.
func SignalName(s syscall.Signal) string { return unix.SignalName(s) }

// ParseSignal gives the signal of that name, if a program can handle it.
func ParseSignal(name string) (syscall.Signal, error) {
	switch s := unix.SignalNum(name); s {
	case 0:
		return 0, errors.New("write none, restart, or the name of a signal, such as SIGHUP")
	case unix.SIGKILL, unix.SIGSTOP:
		return 0, errors.New("no program can handle this signal; write restart, or the signal at which CMD reads its files again")
	default:
		return s, nil
	}
}
