package refresh

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
)

const (
	// socketMode lets the sidecar's group ask, as it lets it read the key.
	socketMode fs.FileMode = 0o660
	// socketGap is the least time between two looks that the sockets cause; requests in between
	// become one look at its end.
	socketGap = 5 * time.Second
	// longestPath is the size of sun_path on the systems that have the shortest.
	longestPath = 104
)

// Sockets are the refresh.sock of every key directory: a connection to any, whatever it sends, asks for a
// look. They share one limit, since a look is one at every key.
type Sockets struct {
	ask  func()
	wake chan struct{}
	stop chan struct{}
	wait sync.WaitGroup

	sockets map[string]*socket // by directory
}

// A socket is that of one directory.
type socket struct {
	*Sockets
	path     string
	listener net.Listener
	problem  string // what Listen said last
}

// NewSockets makes none yet: Listen does.
func NewSockets(ask func()) *Sockets {
	s := &Sockets{
		ask:     ask,
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		sockets: map[string]*socket{},
	}
	s.wait.Go(s.forward)
	return s
}

// Listen opens the socket of a key directory, or opens it again if it has gone with its volume. It reports
// whether its error is another one than the last time, so that one problem is logged once. Calls must not
// overlap.
func (s *Sockets) Listen(dir string) (changed bool, err error) {
	of := s.sockets[dir]
	if of == nil {
		of = &socket{Sockets: s, path: filepath.Join(dir, keyfile.SocketName)}
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
	info, err := os.Lstat(s.path)
	switch {
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is not a socket; remove it", s.path)
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
	if len(s.path) >= longestPath {
		return fmt.Errorf("%s is longer than a socket's name may be; shorten --dir", s.path)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	// A successor may have put its own socket there: a stale one is removed by whoever listens next.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(s.path, socketMode); err != nil {
		listener.Close()
		return err
	}
	s.listener = listener
	s.wait.Go(func() { s.accept(listener) })
	return nil
}

// accept reads nothing and answers nothing: that somebody connected is the whole message.
func (s *socket) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: the next second may have one
			select {
			case <-s.stop:
				return
			case <-time.After(time.Second):
				continue
			}
		}
		conn.Close()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *Sockets) forward() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		}
		s.ask()
		select {
		case <-s.stop:
			return
		case <-time.After(socketGap):
		}
	}
}

func (s *socket) closeListener() {
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}

// Close removes the sockets and waits for their goroutines.
func (s *Sockets) Close() {
	close(s.stop)
	for _, of := range s.sockets {
		if of.listener != nil {
			_ = os.Remove(of.path)
		}
		of.closeListener()
	}
	s.wait.Wait()
}
