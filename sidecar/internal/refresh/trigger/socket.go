package trigger

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
)

const (
	// socketMode lets the sidecar's group connect, as the key's mode lets it read the key.
	socketMode fs.FileMode = 0o660
	// acceptGap is the least time between two connections: a program that connects without end waits instead of using
	// up the processor.
	acceptGap = time.Millisecond
	// acceptRetry is the time after an error of accept, most likely that all descriptors are in use.
	acceptRetry = time.Second
)

// Sockets are the refresh.sock of every key directory. A connection to any of them, whatever it sends, is a request.
type Sockets struct {
	request func()
	stop    chan struct{}
	wait    sync.WaitGroup

	sockets map[string]*socket // by directory
}

// A socket is the refresh.sock of one directory.
type socket struct {
	*Sockets
	path     string
	listener net.Listener
	created  fs.FileInfo // of the listener's name on disk
	problem  string      // the last error of Listen
}

// NewSockets opens none yet: Listen does. request is called for each connection and must not block.
func NewSockets(request func()) *Sockets {
	return &Sockets{request: request, stop: make(chan struct{}), sockets: map[string]*socket{}}
}

// Listen opens the socket of a key directory, or opens it again after its volume was replaced. changed says that the
// error differs from the last one, so that the caller logs one problem once. Calls must not overlap, nor follow Close.
func (s *Sockets) Listen(dir string) (changed bool, err error) {
	of := s.sockets[dir]
	if of == nil {
		of = &socket{Sockets: s, path: filepath.Join(dir, keyfile.RefreshSocketName)}
		s.sockets[dir] = of
	}
	err = of.listen()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	changed = problem != of.problem
	of.problem = problem
	return changed, err
}

func (s *socket) listen() error {
	if err := keysocket.Conflict(s.path); err != nil {
		return err
	}
	_, err := os.Lstat(s.path)
	switch {
	case err == nil && s.listener != nil:
		return nil
	case err == nil: // a predecessor's
		if err := os.Remove(s.path); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	s.closeListener()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return unusable(fmt.Errorf("%s: %w", s.path, err), "use a volume whose filesystem supports sockets, or send SIGHUP to refresh")
	}
	// A successor may have put its own socket there; it also removes the one that a killed process left.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(s.path, socketMode); err != nil {
		listener.Close()
		return err
	}
	created, err := os.Lstat(s.path)
	if err != nil {
		listener.Close()
		return err
	}
	s.listener, s.created = listener, created
	s.wait.Go(func() { s.accept(listener) })
	return nil
}

func unusable(err error, advice string) error {
	return failure.New(keyfile.ClassFilesystem, err, advice)
}

// accept reads nothing and answers nothing: the connection is the whole request.
func (s *socket) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		delay := acceptGap
		if err != nil {
			delay = acceptRetry
		} else {
			conn.Close()
			s.request()
		}
		select {
		case <-s.stop:
			return
		case <-time.After(delay):
		}
	}
}

func (s *socket) closeListener() {
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}

// Close removes the sockets, except those of a successor, and waits for their goroutines.
func (s *Sockets) Close() {
	close(s.stop)
	for _, of := range s.sockets {
		if there, err := os.Lstat(of.path); err == nil && of.listener != nil && os.SameFile(there, of.created) {
			_ = os.Remove(of.path)
		}
		of.closeListener()
	}
	s.wait.Wait()
}
