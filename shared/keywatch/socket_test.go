package keywatch_test

import (
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

// A server serves the key at a socket as a sidecar does, or fails to.
type server struct {
	t        *testing.T
	path     string
	answer   atomic.Pointer[func(net.Conn)]
	listener net.Listener
}

func newServer(t *testing.T) *server {
	s := &server{t: t, path: filepath.Join(t.TempDir(), keyfile.DER.SocketName())}
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.listener = listener
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go (*s.answer.Load())(conn)
		}
	}()
}

// serves makes connections get that portion of the nth test key.
func (s *server) serves(n int, portion float64) {
	content := keyfile.DER.Encode(testkey.Key(n))
	s.does(func(conn net.Conn) {
		defer conn.Close()
		_, _ = conn.Write(content[:int(portion*float64(len(content)))])
	})
}

// does changes what connections get. It also changes status.json beside the socket, as a sidecar does with a new key.
func (s *server) does(answer func(net.Conn)) {
	s.t.Helper()
	s.answer.Store(&answer)
	path := filepath.Join(filepath.Dir(s.path), keyfile.StatusName)
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func TestWatcher_Socket(t *testing.T) {
	s := newServer(t)
	s.serves(0, 1)
	w := open(t, s.path, noPoll)
	expect(t, w, 0)
	for n := range 4 {
		s.serves(n%2, 1)
		expect(t, w, n%2)
	}
}

func TestNew_WaitsForSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), keyfile.DER.SocketName())
	log := newLog()
	s := &server{t: t, path: path}
	go func() {
		log.wait(t, "waiting for the first key", 1)
		s.serves(1, 1)
		s.start()
	}()
	expect(t, open(t, path, 20*time.Millisecond, keywatch.WithLogger(log.logger())), 1)
}

// The key stays while the sidecar restarts, is slow, or gives half a key or none, and the next key is noticed.
func TestWatcher_BadSocketKeepsKey(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for what, spoil := range map[string]func(*server){
		"half a key": func(s *server) { s.serves(1, 0.5) },
		"nothing":    func(s *server) { s.serves(1, 0) },
		"slow":       func(s *server) { s.does(func(conn net.Conn) { <-release; conn.Close() }) },
		"restarting": func(s *server) { s.listener.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.serves(0, 1)
			w := open(t, s.path, 20*time.Millisecond)
			expect(t, w, 0)
			spoil(s)
			expectErr(t, w, true)
			if !w.Key().Equal(testkey.Key(0)) {
				t.Error("the key did not stay")
			}
			if what == "restarting" {
				s.start()
			}
			s.serves(1, 1)
			expect(t, w, 1)
		})
	}
}

// Close does not wait for a sidecar that does not answer.
func TestClose_WhileASocketIsRead(t *testing.T) {
	s := newServer(t)
	s.serves(0, 1)
	w := open(t, s.path, noPoll)
	reading, release := make(chan struct{}, 16), make(chan struct{})
	t.Cleanup(func() { close(release) })
	s.does(func(conn net.Conn) { reading <- struct{}{}; <-release; conn.Close() })
	<-reading
	closed := make(chan struct{})
	go func() { w.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(keyfile.SocketTimeout - time.Second):
		t.Error("Close waits for the sidecar")
	}
}
