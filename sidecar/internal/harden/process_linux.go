package harden

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// closedFromStart is read before Process closes the process.
var closedFromStart = !dumpable()

// dumpable reports whether processes of the same user may open this one. The kernel sets it at execve: to true if this
// user may read the program's file.
func dumpable() bool {
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err != nil || n == 1 // 2 is for root alone, as 0 is
}

// closeMemory keeps other processes of the same user, such as the command that exec runs, from reading memory and
// environment, and the kernel from writing core files. It locks memory, so that nothing of it goes to swap, where no
// limit forbids that. Children do not inherit any of it.
func closeMemory() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var limit unix.Rlimit
	// Under a limit, locking memory now would make a later allocation fail.
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur == unix.RLIM_INFINITY {
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
}

// ForbidCore sets the limit of core files to 0, should the kernel ignore that the process is closed. It is for
// commands that run no other: children inherit the limit.
func ForbidCore() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// environmentBlock returns the environment as the kernel has put it into memory, nil if it is not where it should be.
// It lies behind the arguments. Go uses the arguments where they are, and copies the environment.
func environmentBlock() []byte {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil || len(os.Args) == 0 {
		return nil
	}
	_, fields, _ := bytes.Cut(stat, []byte(") ")) // the program's name before may have spaces
	var args, from, to uint64
	for i, f := range bytes.Fields(fields) {
		switch i + 3 { // the numbers of proc_pid_stat(5)
		case 48:
			args, _ = strconv.ParseUint(string(f), 10, 64)
		case 50:
			from, _ = strconv.ParseUint(string(f), 10, 64)
		case 51:
			to, _ = strconv.ParseUint(string(f), 10, 64)
		}
	}
	first := unsafe.StringData(os.Args[0])
	if args != uint64(uintptr(unsafe.Pointer(first))) || from < args || to <= from {
		return nil
	}
	return unsafe.Slice(first, to-args)[from-args:]
}
