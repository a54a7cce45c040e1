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
	refreshGap     = 5 * time.Second
	refreshTimeout = 200 * time.Millisecond
)

// A refresher asks the sidecar to look for a newer key, through the socket beside the key file. There
// may be none: whoever writes the file need not be the sidecar.
type refresher struct {
	socket string
	mu     sync.Mutex
	last   time.Time
}

func newRefresher(keyPath string) *refresher {
	return &refresher{socket: filepath.Join(filepath.Dir(keyPath), keyfile.SocketName)}
}

func (r *refresher) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last) < refreshGap {
		return
	}
	r.last = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
	defer cancel()
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", r.socket); err == nil {
		_ = conn.Close()
	}
}
