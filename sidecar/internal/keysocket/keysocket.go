// Package keysocket serves a published key at sockets in the key directory, one for each format: a program that connects
// gets exactly the bytes that the key file would hold, then the end.
//
// It never writes the key to a file system, never waits for a reader before another one is answered, never holds more
// unread answers than [MaxReaders], and never gives a key to a user that the mode of the key files keeps out.
package keysocket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/owner"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const (
	// MaxReaders is how many connections are open at once, to the sockets of all keys together. Bytes that a reader has
	// not read yet are in the kernel's memory, which counts as the sidecar's.
	MaxReaders = 256
	// writeTimeout bounds a write that blocks. The write of a key does not: the key fits into the connection's buffer.
	writeTimeout = 5 * time.Second
	// checkInterval is how often missing sockets are opened again. Another sidecar of the same source removes its own when it
	// ends.
	checkInterval = time.Second
	// readEvery is the number of checks between two reads of another sidecar's live socket: that sidecar counts each
	// read.
	readEvery = 10
	// readTimeout is how long another sidecar may take to give its key.
	readTimeout = time.Second
	// refusedPause is the time after a connection that is refused: a program that connects without end waits instead of
	// using up the processor.
	refusedPause = time.Millisecond
	// acceptRetry is the time after an error of accept, most likely that all descriptors are in use.
	acceptRetry = time.Second
)

// A Read is one reader's connection.
type Read struct {
	Format  keyfile.Format
	UID     uint32
	PID     int32 // 0 for a process of another container
	Refused error // why it got no key
}

// Slots are places for the connections that may be open at once, MaxReaders.
type Slots chan struct{}

// NewSlots makes the Slots that all Servers of a process share.
func NewSlots() Slots { return make(Slots, MaxReaders) }

// Options are the settings of a Server.
type Options struct {
	Dir     string
	Formats []keyfile.Format
	Mode    fs.FileMode // of the key files
	Slots   Slots
	OnRead  func(Read) // is called for each connection, by several goroutines, and must not block
	Stale   func()     // is called once if status.json has named another key than the Server's for two checks; must not block
	Log     *slog.Logger
}

// A Server serves one key. Its methods are for one goroutine at a time.
type Server struct {
	Options
	key     atomic.Pointer[keyfile.Key]
	ctx     context.Context
	stop    context.CancelFunc
	wait    sync.WaitGroup
	start   sync.Once
	garbage atomic.Bool // a key was encoded since the last secret.Collect

	mu      sync.Mutex
	stale   int         // checks in which status.json named another key
	at      fs.FileInfo // the directory of the last Serve; nil while nothing may be served
	sockets []*socket
}

// New makes a Server. Serve opens its sockets.
func New(o Options) *Server {
	s := &Server{Options: o}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, f := range o.Formats {
		s.sockets = append(s.sockets, &socket{server: s, format: f, path: filepath.Join(o.Dir, f.SocketName())})
	}
	return s
}

// Serve serves k from now on, and reports whether the key changed. If it did, Serve replaces another sidecar's sockets. The
// caller holds the directory's lock.
//
// Its errors are *failure.Error of class filesystem. The other sockets serve even then.
func (s *Server) Serve(k *keyfile.Key) (changed bool, err error) {
	changed = !k.Equal(s.key.Swap(k))
	s.start.Do(func() { s.wait.Go(s.maintain) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at, err = os.Stat(s.Dir); err != nil {
		return changed, unusable(err, "check the volume mounted at "+s.Dir)
	}
	return changed, s.listen(changed)
}

// Withdraw closes the sockets until the next Serve, since the directory is another sidecar's.
func (s *Server) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = nil
	for _, of := range s.sockets {
		of.close()
	}
}

// listen opens the sockets that are missing, and replaces those of another sidecar if replace is set.
func (s *Server) listen(replace bool) error {
	var all []error
	for _, of := range s.sockets {
		all = append(all, of.listen(replace))
	}
	return errors.Join(all...)
}

// maintain opens missing sockets again, but not in a directory that was replaced: a refresh locks that first. It logs each
// problem once. After reads it collects the garbage, which erases encoded keys.
func (s *Server) maintain() {
	ticks := time.NewTicker(checkInterval)
	defer ticks.Stop()
	logged := ""
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticks.C:
		}
		if s.garbage.Swap(false) {
			secret.Collect()
		}
		problem := ""
		if err := s.listenAgain(); err != nil {
			problem = err.Error()
			if problem != logged {
				s.Log.Warn("the key is not served at every socket", failure.Attributes(err)...)
			}
		}
		logged = problem
	}
}

func (s *Server) listenAgain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := os.Stat(s.Dir)
	if err != nil || s.at == nil || !os.SameFile(now, s.at) || s.isStale() {
		return nil
	}
	return s.listen(false)
}

// isStale reports whether status.json names another key, published by another sidecar of the source. If that sidecar
// has ended, the older key must not come back. Serve comes before its own status, so one check proves nothing.
func (s *Server) isStale() bool {
	status, err := keyfile.ReadStatus(s.Dir)
	newest := status.Fingerprint
	if status.Publishing != nil { // the other one may have been killed before it wrote more
		newest = status.Publishing.Fingerprint
	}
	if err != nil || newest == "" || newest == s.key.Load().Fingerprint() {
		s.stale = 0
		return false
	}
	if s.stale++; s.stale == 2 {
		s.Stale()
	}
	return true
}

// Close removes the sockets, except those of another sidecar, and waits for the goroutines. Readers that have not read
// their key yet can still do so.
func (s *Server) Close() {
	s.stop()
	s.Withdraw()
	s.wait.Wait()
	s.key.Store(nil)
}

// A socket serves one format. The Server's mutex guards its fields.
type socket struct {
	server   *Server
	format   keyfile.Format
	path     string
	listener *net.UnixListener
	created  fs.FileInfo // of the listener's name on disk
	other    fs.FileInfo // another sidecar's socket that gave the key
	checks   int         // since then
}

// Conflict returns why no socket can be opened at path: another kind of file is there, or the path is too long. It is
// nil if one can.
func Conflict(path string) error {
	if len(path) > keyfile.MaxSocketPath {
		return unusable(fmt.Errorf("%s is too long for a socket: it has %d bytes, and at most %d are possible",
			path, len(path), keyfile.MaxSocketPath), "shorten --dir")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return unusable(fmt.Errorf("%s is not a socket", path), "remove it")
	}
	return nil
}

// listen opens the socket unless it is there. It replaces another sidecar's if replace is set, or if that does not serve.
func (s *socket) listen(replace bool) error {
	if err := Conflict(s.path); err != nil {
		return err
	}
	info, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.open()
	case err != nil:
		return unusable(err, "check the volume mounted at "+s.server.Dir)
	case s.listener != nil && os.SameFile(info, s.created) && s.isOurs(info):
		return nil
	case replace, s.listener != nil && os.SameFile(info, s.created):
		return s.open()
	}
	return s.leaveOrReplace(info)
}

// leaveOrReplace leaves another sidecar's socket alone while it gives the same key.
func (s *socket) leaveOrReplace(there fs.FileInfo) error {
	known := s.other != nil && os.SameFile(there, s.other)
	if s.checks++; known && s.checks < readEvery && isServed(s.path) {
		return nil
	}
	if err := s.givesKey(); err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) { // as of a sidecar that was killed
			s.server.Log.Warn("a socket that does not give the key is replaced", "socket", s.path, "error", err.Error())
		}
		return s.open()
	}
	s.closeListener()
	s.other, s.checks = there, 0
	return nil
}

// givesKey returns why the socket does not give the Server's key, nil if it does.
func (s *socket) givesKey() (err error) {
	ctx, cancel := context.WithTimeout(s.server.ctx, readTimeout)
	defer cancel()
	secret.Do(func() {
		var key *keyfile.Key
		if key, err = keyfile.ReadContext(ctx, s.path); err == nil && !key.Equal(s.server.key.Load()) {
			err = errors.New("it gives another key")
		}
	})
	s.server.garbage.Store(true)
	return err
}

// isServed reports whether a process listens at the socket. It connects with a datagram socket: the kernel refuses that
// as the wrong type if a process listens, without disturbing it, and in another way if no process does.
func isServed(path string) bool {
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.EPROTOTYPE)
}

// open listens under a temporary name, so that the socket has its owner and mode before it gets its own name.
func (s *socket) open() error {
	s.closeListener()
	s.other = nil
	root, err := os.OpenRoot(s.server.Dir)
	if err != nil {
		return unusable(err, "check the volume mounted at "+s.server.Dir)
	}
	defer root.Close()
	temp := tempPrefix + rand.Text()[:4] // no longer than the shortest name
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(s.server.Dir, temp), Net: "unix"})
	if err != nil {
		return unusable(fmt.Errorf("%s: %w", s.path, cause(err)), "use a volume whose filesystem supports sockets, or key files (--formats)")
	}
	listener.SetUnlinkOnClose(false) // of a name that it has no more
	created, err := s.finish(root, temp)
	if err != nil {
		listener.Close()
		_ = root.Remove(temp)
		return unusable(fmt.Errorf("%s: %w", s.path, cause(err)), "check the volume mounted at "+s.server.Dir)
	}
	s.listener, s.created = listener, created
	s.server.wait.Go(func() { s.server.accept(listener, s.format) })
	return nil
}

// finish sets the owner, the group as that of a key file, and the mode, then renames.
func (s *socket) finish(root *os.Root, temp string) (fs.FileInfo, error) {
	if err := root.Lchown(temp, os.Getuid(), s.server.group()); err != nil {
		return nil, err
	}
	if err := root.Chmod(temp, Mode(s.server.Mode)); err != nil {
		return nil, err
	}
	created, err := root.Lstat(temp)
	if err != nil {
		return nil, err
	}
	return created, root.Rename(temp, s.format.SocketName())
}

// group is the group of key files in the directory.
func (s *Server) group() int { return owner.GroupIn(os.Stat(s.Dir)) }

// tempPrefix marks a temporary file of a sidecar without a lock: publish removes what a killed one left.
const tempPrefix = ".snowkey-0-"

// Mode is the mode of a socket for readers of the key files: to connect takes the permission to write.
func Mode(files fs.FileMode) fs.FileMode {
	read := files & 0o444
	return read | read>>1
}

func (s *socket) close() {
	if there, err := os.Lstat(s.path); err == nil && s.listener != nil && os.SameFile(there, s.created) {
		_ = os.Remove(s.path)
	}
	s.closeListener()
}

func (s *socket) closeListener() {
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}

func unusable(err error, advice string) error {
	return failure.New(keyfile.ClassFilesystem, err, advice)
}

// cause strips the names of temporary files from an error.
func cause(err error) error {
	var system *os.SyscallError
	if errors.As(err, &system) {
		return system.Err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
