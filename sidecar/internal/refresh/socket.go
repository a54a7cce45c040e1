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
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const (
	// socketMode lets the sidecar's group ask, as it lets it read the key.
	socketMode fs.FileMode = 0o660
	// acceptGap is the time for one connection: a program that connects without end has to wait, instead of
	// having the processor.
	acceptGap = time.Millisecond
	// longestPath is the size of sun_path on the systems that have the shortest.
	longestPath = 104
)

// Sockets are the refresh.sock of every key directory: a connection to any, whatever it sends, asks for a
// look.
type Sockets struct {
	ask  func()
	stop chan struct{}
	wait sync.WaitGroup

	sockets map[string]*socket // by directory
}

// A socket is that of one directory.
type socket struct {
	*Sockets
	path     string
	listener net.Listener
	made     fs.FileInfo // of the listener's name on disk
	problem  string      // what Listen said last
}

// NewSockets makes none yet: Listen does. ask, which must not block, is called for each connection.
func NewSockets(ask func()) *Sockets {
	return &Sockets{ask: ask, stop: make(chan struct{}), sockets: map[string]*socket{}}
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
		return unusable(fmt.Errorf("%s is not a socket", s.path), "remove it")
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
		return unusable(fmt.Errorf("%s is longer than a socket's name may be", s.path), "shorten --dir")
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return unusable(fmt.Errorf("%s: %w", s.path, err), "have the sidecar's volume on a filesystem that takes sockets, or ask by SIGHUP")
	}
	// A successor may have put its own socket there: a stale one is removed by whoever listens next.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(s.path, socketMode); err != nil {
		listener.Close()
		return err
	}
	made, err := os.Lstat(s.path)
	if err != nil {
		listener.Close()
		return err
	}
	s.listener, s.made = listener, made
	s.wait.Go(func() { s.accept(listener) })
	return nil
}

func unusable(err error, do string) error { return failure.New(keyfile.ClassFilesystem, err, do) }

// accept reads nothing and answers nothing: that somebody connected is the whole message.
func (s *socket) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		pause := acceptGap
		if err != nil {
			pause = time.Second // out of descriptors: the next second may have one
		} else {
			conn.Close()
			s.ask()
		}
		select {
		case <-s.stop:
			return
		case <-time.After(pause):
		}
	}
}

func (s *socket) closeListener() {
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}

// Close removes the sockets, but those that a successor has put there, and waits for their goroutines.
func (s *Sockets) Close() {
	close(s.stop)
	for _, of := range s.sockets {
		if there, err := os.Lstat(of.path); err == nil && of.listener != nil && os.SameFile(there, of.made) {
			_ = os.Remove(of.path)
		}
		of.closeListener()
	}
	s.wait.Wait()
}
