package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// closeMemory keeps the key in this process: other processes of the same user, such as CMD of `exec`, cannot
// read its memory and environment, a crash writes no core file, and nothing goes to swap if the limit
// allows to say so. None of it passes to CMD.
func closeMemory() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var limit unix.Rlimit
	// With a limit, memory that is locked now would have a later allocation fail.
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur == unix.RLIM_INFINITY {
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
}

// refuseCore is a second lock on the same door, for a command that starts no other: the limit passes to
// children, and whether CMD writes core files is its own affair.
func refuseCore() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// forget overwrites the values of the variables that hold secrets: in environ, which must be the process's
// own, and in the block that the kernel shows in /proc/PID/environ, where their names stay. The variables are unset, too:
// the SDK gives a credential_process all that there are, and no program starts with one that is overwritten.
func forget(environ []string) {
	for entry := range bytes.SplitSeq(environmentBlock(), []byte{0}) {
		if name, value, _ := bytes.Cut(entry, []byte("=")); config.IsSecret(string(name)) {
			clear(value)
		}
	}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); config.IsSecret(name) {
			clear(unsafe.Slice(unsafe.StringData(value), len(value)))
			_ = os.Unsetenv(name)
		}
	}
}

// environmentBlock is what the kernel laid there at the process's start: its arguments, which Go uses where
// they are, and behind them its environment, which Go copies. nil if it is not as expected.
func environmentBlock() []byte {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil || len(os.Args) == 0 {
		return nil
	}
	_, fields, _ := bytes.Cut(stat, []byte(") ")) // the name before may have spaces
	var args, from, to uintptr
	for i, f := range bytes.Fields(fields) {
		switch i + 3 { // as proc_pid_stat(5) counts
		case 48:
			_, _ = fmt.Sscan(string(f), &args)
		case 50:
			_, _ = fmt.Sscan(string(f), &from)
		case 51:
			_, _ = fmt.Sscan(string(f), &to)
		}
	}
	first := unsafe.StringData(os.Args[0])
	if args != uintptr(unsafe.Pointer(first)) || from < args || to <= from {
		return nil
	}
	return unsafe.Slice(first, to-args)[from-args:]
}
