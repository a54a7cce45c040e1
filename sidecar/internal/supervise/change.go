package supervise

import "syscall"

// A Change is the action at a change: none, a signal to the command, or a restart.
type Change struct {
	Signal  syscall.Signal
	Restart bool
}
