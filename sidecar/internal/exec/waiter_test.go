//go:build unix

package exec

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// Only the context knows of a signal that comes before exec catches its own. No test can send one to a process at just
// that moment, so this test sends it to itself.
func TestFirstKeys_SignalBeforeAnythingElse(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ctx, stop := supervise.NotifyContext()
		defer stop()
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		_, err := waiter{keys: []refresh.Key{{}}}.firstKeys(ctx)
		if e, ok := errors.AsType[StoppedError](err); !ok || e.Signal != sig {
			t.Errorf("%v: %v", sig, err)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			t.Errorf("%v: the context ended with %v, which is no cancellation", sig, cause)
		}
	}
}
