package snowkey

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	triggerInterval = 5 * time.Second
	triggerTimeout  = 200 * time.Millisecond
)

// A trigger makes the sidecar check for a newer key, through the socket beside the key file. There may be no socket: the
// file may come from another program.
type trigger struct {
	socket string
	mu     sync.Mutex
	last   time.Time
}

func newTrigger(keyPath string) *trigger {
	return &trigger{socket: filepath.Join(filepath.Dir(keyPath), keyfile.RefreshSocketName)}
}

// refresh triggers the sidecar at most once in triggerInterval.
func (t *trigger) refresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.last) < triggerInterval {
		return
	}
	t.last = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), triggerTimeout)
	defer cancel()
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", t.socket); err == nil {
		_ = conn.Close()
	}
}
