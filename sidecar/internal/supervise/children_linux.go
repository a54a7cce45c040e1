package supervise

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lastSignal includes the real-time signals.
const lastSignal syscall.Signal = 64

// adoptOrphans makes this process the parent of its children's orphans. The first process of a container is that anyway, but
// with ECS's initProcessEnabled this one is not the first.
func adoptOrphans() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // as old as Linux 3.4
}

// waitForChild waits for a child of this thread that has ended: the command, which Run starts from it, or an orphan, which
// the kernel gives to a process's first thread. It leaves the children of other threads alone, such as the AWS SDK's
// credential_process: a wait for any child would take their exit status.
func waitForChild(_ int, status *syscall.WaitStatus) (pid int, err error) {
	return syscall.Wait4(-1, status, syscall.WNOHANG|syscall.WNOTHREAD, nil)
}
