// Package harden protects the secrets in this process: from other processes of the same user, from core files, from
// swap, and from staying in memory and in the environment for longer than they are used.
//
// It does what one process can do for itself, without privileges and on Linux alone. It never protects from root or
// CAP_SYS_PTRACE, never changes a file, and passes nothing on to the command that exec runs. The mode of the program's file
// decides what other processes can open before main, see [OtherProcesses].
package harden

import (
	"runtime"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Process is for the beginning of main: it closes the process to others, and delays the garbage collection.
func Process() {
	delayCollection()
	closeMemory()
}

// A Protection says whether one protection holds in this process.
type Protection struct {
	Holds  bool
	Says   string // in one line, for a log, a report or a person
	Advice string // what to do where it does not hold
}

// String says what holds, and what to do if something does not.
func (p Protection) String() string { return strings.TrimSuffix(p.Says+"; "+p.Advice, "; ") }

// OtherProcesses says whether other processes of the same user were kept out from the start, or only from Process on.
//
// From the start the kernel keeps them out of a process whose program file its user may not read. Otherwise they can
// open /proc/PID/environ and /proc/PID/mem until Process has run, and go on reading from what they have opened.
func OtherProcesses() Protection {
	switch {
	case runtime.GOOS != "linux":
		return Protection{Says: "let in: this system has no way to keep them out", Advice: "run it on Linux"}
	case !closedFromStart:
		return Protection{
			Says:   "not kept out while the sidecar starts: a process of the same user can open its memory and environment then, and keep reading",
			Advice: "install the program as the image has it, owned by root with mode 0111, and run it as another user",
		}
	default:
		return Protection{Holds: true, Says: "kept out from the start"}
	}
}

// Memory says whether memory that held a secret is erased after use.
func Memory() Protection {
	switch {
	case secret.Erases:
		return Protection{Holds: true, Says: "erased after use"}
	case !secret.CanErase:
		return Protection{Says: "not erased after use", Advice: "run it on linux/amd64 or linux/arm64: Go erases memory nowhere else"}
	default:
		return Protection{Says: "not erased after use", Advice: "build it with GOEXPERIMENT=runtimesecret, as make build does"}
	}
}

// Attributes are the attributes of the first line of a log.
func Attributes() []any {
	others, memory := OtherProcesses(), Memory()
	attributes := []any{"other_processes", others.Says, "memory", memory.Says}
	var advice []string
	for _, p := range []Protection{others, memory} {
		if !p.Holds {
			advice = append(advice, p.Advice)
		}
	}
	if len(advice) > 0 {
		attributes = append(attributes, "advice", strings.Join(advice, "; "))
	}
	return attributes
}
