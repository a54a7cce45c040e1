package supervise

import (
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func init() { runtime.LockOSThread() }

// collected counts the children that the first thread has waited for.
var collected atomic.Int64

// While the tests run, the first thread collects what it is given, as Run does, but all the time.
func TestMain(m *testing.M) {
	adoptOrphans()
	done := make(chan int)
	go func() { done <- m.Run() }()
	for {
		select {
		case code := <-done:
			os.Exit(code)
		default:
		}
		var status syscall.WaitStatus
		if pid, err := waitForChild(0, &status); err == nil && pid > 0 {
			collected.Add(1)
		}
		runtime.Gosched()
	}
}

// The AWS SDK starts processes, too (credential_process), and needs to know how they ended.
func TestWaitForChild_LeavesChildrenOfOtherThreads(t *testing.T) {
	before := collected.Load()
	for i := range 100 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
	}
	if n := collected.Load() - before; n != 0 {
		t.Errorf("%d of them were collected", n)
	}
}

func TestWaitForChild_CollectsOrphans(t *testing.T) {
	before := collected.Load()
	if err := exec.Command("sh", "-c", "sleep 0.1 >/dev/null 2>&1 & sleep 0.2 >/dev/null 2>&1 &").Run(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(15 * time.Second); collected.Load() < before+2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d orphans collected, want 2", collected.Load()-before)
		}
	}
}
