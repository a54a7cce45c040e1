package keysocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reads are what a Server reported.
type reads struct {
	mu    sync.Mutex
	all   []keysocket.Read
	stale int
}

// seen are the reads that were not refused.
func (r *reads) seen() (seen []keysocket.Read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, read := range r.all {
		if read.Refused == nil {
			seen = append(seen, read)
		}
	}
	return seen
}

func (r *reads) refused() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, read := range r.all {
		if read.Refused != nil {
			n++
		}
	}
	return n
}

func serve(t testing.TB, dir string, mode fs.FileMode, formats ...keyfile.Format) (*keysocket.Server, *reads) {
	t.Helper()
	r := &reads{}
	s := keysocket.New(keysocket.Options{
		Dir: dir, Formats: formats, Mode: mode, Slots: keysocket.NewSlots(), OnRead: func(read keysocket.Read) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.all = append(r.all, read)
		}, Stale: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.stale++
		}, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(s.Close)
	if changed, err := s.Serve(testkey.Key(0)); !changed || err != nil {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	return s, r
}

func connect(t testing.TB, dir string, f keyfile.Format) *net.UnixConn {
	t.Helper()
	var conn *net.UnixConn
	testenv.Eventually(t, "there is a connection", func() (done bool) {
		var err error
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, f.SocketName()), Net: "unix"})
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func key(dir string, f keyfile.Format) *keyfile.Key {
	k, err := keyfile.Read(filepath.Join(dir, f.SocketName()))
	if err != nil {
		return nil
	}
	return k
}

func TestServe_GivesTheBytesOfTheFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := serve(t, dir, 0o440, keyfile.Formats...)
	for n := range 2 {
		if changed, err := s.Serve(testkey.Key(n)); changed != (n > 0) || err != nil {
			t.Errorf("changed %v, error %v", changed, err)
		}
		for _, f := range keyfile.Formats {
			got, err := io.ReadAll(connect(t, dir, f))
			if err != nil || !bytes.Equal(got, f.Encode(testkey.Key(n))) {
				t.Errorf("%s: %d bytes, error %v", f, len(got), err)
			}
			info, err := os.Lstat(filepath.Join(dir, f.SocketName()))
			if err != nil || info.Mode() != fs.ModeSocket|0o660 {
				t.Errorf("%s: %v, error %v", f, info.Mode(), err)
			}
		}
	}
	s.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
}

func TestServe_ManyReadersWhileTheKeyChanges(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	s, _ := serve(t, dir, 0o440, keyfile.DER)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 50 {
				if k := key(dir, keyfile.DER); k == nil {
					t.Error("no key")
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for n := 1; ; n = 1 - n {
		if _, err := s.Serve(testkey.Key(n)); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// Readers that do not read, do not close or send without end cost the others nothing, until there are too many.
func TestServe_BadReaders(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	s, r := serve(t, dir, 0o440, keyfile.PEM, keyfile.DER)
	var idle []*net.UnixConn
	for range keysocket.MaxReaders - 2 {
		idle = append(idle, connect(t, dir, keyfile.PEM))
	}
	sending := connect(t, dir, keyfile.PEM)
	go func() {
		_ = sending.SetDeadline(time.Now().Add(patience))
		for {
			if _, err := sending.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	testenv.Eventually(t, "there is room for a reader", func() bool { return testkey.Key(0).Equal(key(dir, keyfile.DER)) })
	// One that sends may be gone by the next read, which then finds room.
	var err error
	testenv.Eventually(t, "there are too many", func() bool {
		idle = append(idle, connect(t, dir, keyfile.PEM))
		_, err = keyfile.Read(filepath.Join(dir, keyfile.DER.SocketName()))
		return err != nil && r.refused() > 0
	})
	if !errors.Is(err, keyfile.ErrNotServed) || !strings.Contains(err.Error(), "log says why") {
		t.Errorf("error %v", err)
	}
	if _, err := s.Serve(testkey.Key(1)); err != nil { // waits for none of them
		t.Error(err)
	}
	// A slow reader still gets the whole key that it connected for.
	got, err := io.ReadAll(idle[0])
	if err != nil || !bytes.Equal(got, keyfile.PEM.Encode(testkey.Key(0))) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	for _, conn := range idle {
		conn.Close()
	}
	testenv.Eventually(t, "there is room again", func() bool { return testkey.Key(1).Equal(key(dir, keyfile.DER)) })
}

func TestServe_Conflicts(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, []byte("theirs"), 0o600) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a symbolic link": func(path string) error { return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, keyfile.PEM.SocketName())
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			s := keysocket.New(keysocket.Options{Dir: dir, Formats: []keyfile.Format{keyfile.PEM, keyfile.DER}, Mode: 0o440, Slots: keysocket.NewSlots(), OnRead: func(keysocket.Read) {}, Log: slog.New(slog.DiscardHandler)})
			defer s.Close()
			_, err := s.Serve(testkey.Key(0))
			if failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), path+" is not a socket; remove it") {
				t.Errorf("error %v", err)
			}
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Error("it was replaced")
			}
			if !testkey.Key(0).Equal(key(dir, keyfile.DER)) {
				t.Error("the other socket does not serve")
			}
		})
	}
}

func TestServe_PathTooLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := keysocket.New(keysocket.Options{Dir: dir, Formats: []keyfile.Format{keyfile.PEM}, Mode: 0o440, Slots: keysocket.NewSlots(), OnRead: func(keysocket.Read) {}, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	if _, err := s.Serve(testkey.Key(0)); failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), "shorten --dir") {
		t.Errorf("error %v", err)
	}
	path := filepath.Join(dir, keyfile.PEM.SocketName())
	if _, err := keyfile.ReadBytes(context.Background(), path); err == nil {
		t.Error("no error")
	}
}

// A volume that was replaced, another program that removed the socket, a sidecar that was killed.
func TestServe_OpensAgainWhatHasGone(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	_, _ = serve(t, dir, 0o440, keyfile.DER)
	if err := os.Remove(filepath.Join(dir, keyfile.DER.SocketName())); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the key is served again", func() bool { return key(dir, keyfile.DER) != nil })

	killed := filepath.Join(dir, keyfile.PEM.SocketName())
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: killed, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	_, _ = serve(t, dir, 0o440, keyfile.PEM)
	if key(dir, keyfile.PEM) == nil {
		t.Error("the socket of a killed sidecar was not replaced")
	}
}

// publishes writes the status of a key, as the sidecar does that has served it.
func publishes(t *testing.T, dir string, k *keyfile.Key) {
	t.Helper()
	text := fmt.Sprintf(`{"schema": %d, "fingerprint": %q}`, keyfile.StatusSchema, k.Fingerprint())
	path := filepath.Join(dir, keyfile.StatusName)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Two sidecars of the same source: when the one ends that has the newest key, the older key of the other one does not come
// back, and that is told to fetch the newest.
func TestServe_TwoSidecars(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	first, r := serve(t, dir, 0o440, keyfile.DER)
	publishes(t, dir, testkey.Key(0))
	path := filepath.Join(dir, keyfile.DER.SocketName())
	second, _ := serve(t, dir, 0o440, keyfile.DER)
	if _, err := second.Serve(testkey.Key(1)); err != nil {
		t.Fatal(err)
	}
	publishes(t, dir, testkey.Key(1))
	if !testkey.Key(1).Equal(key(dir, keyfile.DER)) {
		t.Error("the older key is served")
	}
	second.Close()
	testenv.Eventually(t, "the first one is told", func() bool {
		if k := key(dir, keyfile.DER); k != nil {
			t.Errorf("%s is served", k)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stale == 1
	})
	if _, err := first.Serve(testkey.Key(1)); err != nil {
		t.Fatal(err)
	}
	if !testkey.Key(1).Equal(key(dir, keyfile.DER)) {
		t.Error("the newest key is not served")
	}
	first.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// A sidecar that is killed between serving a key and its status leaves a status that announces the key.
func TestServe_AnnouncedKeyIsNewer(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	_, r := serve(t, dir, 0o440, keyfile.DER)
	text := fmt.Sprintf(`{"schema": %d, "fingerprint": %q, "publishing": {"fingerprint": %q}}`,
		keyfile.StatusSchema, testkey.Key(0).Fingerprint(), testkey.Key(1).Fingerprint())
	if err := os.WriteFile(filepath.Join(dir, keyfile.StatusName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, keyfile.DER.SocketName())); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "it is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stale == 1
	})
	if k := key(dir, keyfile.DER); k != nil {
		t.Errorf("%s is served", k)
	}
}

// With the same key the first one serves on, and takes over from the second, whether that ends well or is killed.
func TestServe_TwoSidecarsWithTheSameKey(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	_, r := serve(t, dir, 0o440, keyfile.DER)
	path := filepath.Join(dir, keyfile.DER.SocketName())
	second, secondReads := serve(t, dir, 0o440, keyfile.DER) // its own first key, so that it takes the socket
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // checks of the first one
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the first one has taken the socket back: %v", err)
	}
	if n := len(secondReads.seen()); n != 1 {
		t.Errorf("the first one has read the socket %d times", n)
	}
	second.Close()
	testenv.Eventually(t, "the first one serves", func() bool { return testkey.Key(0).Equal(key(dir, keyfile.DER)) && len(r.seen()) > 0 })
}

// A socket that does not give the key is replaced: it has the name of one of the sidecar's.
func TestServe_AnotherProgramsSocket(t *testing.T) {
	testenv.Slow(t)
	for what, listen := range map[string]func(path string) (io.Closer, error){
		"that accepts and closes": func(path string) (io.Closer, error) {
			l, err := net.Listen("unix", path)
			if err == nil {
				go func() {
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						conn.Close()
					}
				}()
			}
			return l, err
		},
		"that never accepts": func(path string) (io.Closer, error) { return net.Listen("unix", path) },
		"with another key": func(path string) (io.Closer, error) {
			l, err := net.Listen("unix", path)
			if err == nil {
				go func() {
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						_, _ = conn.Write(keyfile.DER.Encode(testkey.Key(1)))
						conn.Close()
					}
				}()
			}
			return l, err
		},
		"for datagrams": func(path string) (io.Closer, error) {
			return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		},
		"for packets": func(path string) (io.Closer, error) { return net.Listen("unixpacket", path) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			_, _ = serve(t, dir, 0o440, keyfile.DER)
			path := filepath.Join(dir, keyfile.DER.SocketName())
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			other, err := listen(path)
			if errors.Is(err, syscall.EADDRINUSE) {
				t.Skip("the sidecar was faster")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			testenv.Eventually(t, "the key is served", func() bool { return testkey.Key(0).Equal(key(dir, keyfile.DER)) })
		})
	}
}

// The longest path that a socket may have, and those around it.
func TestServe_PathOfEachLength(t *testing.T) {
	base := t.TempDir()
	for length := keyfile.MaxSocketPath - 4; length <= keyfile.MaxSocketPath+2; length++ {
		name := length - len(base) - len("//"+keyfile.DER.SocketName())
		if name <= 0 {
			t.Skipf("%s is too long for this test", base)
		}
		dir := filepath.Join(base, strings.Repeat("d", name))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s := keysocket.New(keysocket.Options{
			Dir: dir, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440, Slots: keysocket.NewSlots(), OnRead: func(keysocket.Read) {}, Log: slog.New(slog.DiscardHandler),
		})
		_, err := s.Serve(testkey.Key(0))
		switch fits := length <= keyfile.MaxSocketPath; {
		case fits && (err != nil || !testkey.Key(0).Equal(key(dir, keyfile.DER))):
			t.Errorf("%d bytes: error %v", length, err)
		case !fits && (err == nil || !strings.Contains(err.Error(), "shorten --dir")):
			t.Errorf("%d bytes: error %v", length, err)
		}
		s.Close()
	}
}

// As of many programs that start at once: a connect that does not wait is not refused.
func TestServe_ReadersAtOnce(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, 0o440, keyfile.DER)
	address := &syscall.SockaddrUnix{Name: filepath.Join(dir, keyfile.DER.SocketName())}
	var readers []*os.File
	for range 200 {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		reader := os.NewFile(uintptr(fd), "reader")
		defer reader.Close()
		if err := syscall.Connect(fd, address); err != nil {
			t.Fatalf("reader %d: %v", len(readers), err)
		}
		readers = append(readers, reader)
	}
	for n, reader := range readers {
		got, err := io.ReadAll(reader)
		if err != nil || !bytes.Equal(got, keyfile.DER.Encode(testkey.Key(0))) {
			t.Errorf("reader %d: %d bytes, error %v", n, len(got), err)
		}
	}
}

func TestServe_ReportsReaders(t *testing.T) {
	dir := t.TempDir()
	_, r := serve(t, dir, 0o440, keyfile.DER)
	if key(dir, keyfile.DER) == nil {
		t.Fatal("no key")
	}
	testenv.Eventually(t, "the reader is reported", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Contains(r.all, keysocket.Read{Format: keyfile.DER, UID: uint32(os.Getuid()), PID: int32(os.Getpid())})
	})
}

// A reader that closes its side for writing, or sends without end, and does not read, counts until it has gone.
func TestServe_UnreadAnswersAreBounded(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	_, r := serve(t, dir, 0o440, keyfile.DER)
	var held []*net.UnixConn
	for range keysocket.MaxReaders {
		conn := connect(t, dir, keyfile.DER)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	testenv.Eventually(t, "no more are answered", func() bool { return key(dir, keyfile.DER) == nil && r.refused() > 0 })
	time.Sleep(1500 * time.Millisecond)
	if key(dir, keyfile.DER) != nil {
		t.Error("unread answers are no longer counted")
	}
	for _, conn := range held {
		conn.Close()
	}
	testenv.Eventually(t, "there is room", func() bool { return key(dir, keyfile.DER) != nil })
}

// A directory that has come in the place of the old one may be another sidecar's: a refresh has to lock it first.
func TestServe_NotInAnotherDirectory(t *testing.T) {
	testenv.Slow(t)
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, dir, 0o440, keyfile.DER)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it serves in a directory that is not locked: %v, %v", left, err)
	}
	if _, err := s.Serve(testkey.Key(0)); err != nil {
		t.Fatal(err)
	}
	if key(dir, keyfile.DER) == nil {
		t.Error("the next refresh does not serve there")
	}
	s.Withdraw()
	time.Sleep(1500 * time.Millisecond)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it serves in a directory that it was refused: %v, %v", left, err)
	}
}

// A changed mode or owner is put right, and a directory's group is not the socket's.
func TestServe_OwnerAndMode(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o2755|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 0, 2000); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755|fs.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := serve(t, dir, 0o440, keyfile.DER)
	path := filepath.Join(dir, keyfile.DER.SocketName())
	changes := []func() error{func() error { return os.Chmod(path, 0o600) }}
	if os.Getuid() == 0 {
		changes = append(changes, func() error { return os.Chown(path, 0, 2000) }, func() error { return os.Chown(path, 2000, 0) })
	}
	for _, change := range changes {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Serve(testkey.Key(0)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o660 || int(stat.Uid) != os.Getuid() || int(stat.Gid) != os.Getgid() {
			t.Errorf("%v of %d:%d", info.Mode(), stat.Uid, stat.Gid)
		}
	}
}

func FuzzServe_IgnoresWhatAReaderSends(f *testing.F) {
	dir := f.TempDir()
	serve(f, dir, 0o440, keyfile.PEM)
	want := keyfile.PEM.Encode(testkey.Key(0))
	f.Add([]byte(nil), true)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), false)
	f.Add(make([]byte, 200<<10), false)
	f.Fuzz(func(t *testing.T, sent []byte, ends bool) {
		conn := connect(t, dir, keyfile.PEM)
		go func() {
			_, _ = conn.Write(sent)
			if ends {
				_ = conn.CloseWrite()
			}
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, error %v", len(got), err)
		}
	})
}
