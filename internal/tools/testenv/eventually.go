package testenv

import (
	"testing"
	"time"
)

// patience is for what takes a second or two on an idle machine.
const patience = 3 * time.Minute

// Eventually waits until something holds, and returns how long that took, which is right within a twentieth.
func Eventually(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		took := time.Since(began)
		if took > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(min(max(took/20, time.Millisecond), 100*time.Millisecond))
	}
	return time.Since(began)
}
