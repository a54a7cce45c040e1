//go:build unix && !linux

package supervise

import "syscall"

// Containers run Linux. Elsewhere, on a developer's machine, everything works but orphans, which
// belong to that machine's own first process.

const lastSignal syscall.Signal = 31

func adoptOrphans() {}

func waitForChild(command int, status *syscall.WaitStatus) (pid int, err error) {
	pid, err = syscall.Wait4(command, status, syscall.WNOHANG, nil)
	if err == nil && pid == 0 {
		return 0, syscall.ECHILD // of others nothing is known
	}
	return pid, err
}
