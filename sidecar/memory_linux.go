package main

import "golang.org/x/sys/unix"

// closeMemory keeps other processes of the same user, such as CMD, from reading this one's memory and
// environment: SECRET_KEY and its passphrase may be there. It does not pass to CMD.
func closeMemory() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
