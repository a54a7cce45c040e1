package snowkey_test

import (
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// No query fails while a key that is never on disk is rotated, nor while the sidecar that serves it is gone.
func TestRotation_KeyAtASocket(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.path = filepath.Join(t.TempDir(), keyfile.DER.SocketName())
	var served atomic.Int64
	var listener net.Listener
	start := func() {
		var err error
		if listener, err = net.Listen("unix", s.path); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write(keyfile.DER.Encode(testkey.Key(int(served.Load()))))
				conn.Close()
			}
		}()
	}
	serve := func(n int) {
		served.Store(int64(n))
		status := filepath.Join(filepath.Dir(s.path), keyfile.StatusName)
		if err := os.WriteFile(status, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start()
	t.Cleanup(func() { listener.Close() })
	db := s.open()
	l := startLoad(t, db, 4)
	s.expectKey(db, 0)
	s.assign(2, 1)
	serve(1)
	s.expectKey(db, 1)

	listener.Close()
	s.assign(1, 2)
	serve(2)
	s.expectKey(db, 1)
	start()
	serve(2)
	s.expectKey(db, 2)
	l.end()
}
