package exec

import (
	"fmt"
	"syscall"

	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// A Status is CMD's exit status, if that is not 0.
type Status int

func (s Status) Error() string { return fmt.Sprintf("CMD ended with %d", int(s)) }

// A StoppedError is a signal that came before CMD was started.
type StoppedError struct{ Signal syscall.Signal }

func (e StoppedError) Error() string { return supervise.SignalName(e.Signal) + " came first" }
