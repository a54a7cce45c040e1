package keyfile_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// socketIn listens in the test's directory, and calls answer for each connection.
func socketIn(t testing.TB, answer func(net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), keyfile.PEM.SocketName())
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answer(conn)
		}
	}()
	return path
}

func TestRead_Socket(t *testing.T) {
	for _, f := range keyfile.Formats {
		content := f.Encode(testkey.Key(0))
		slowly := func(conn net.Conn) {
			for _, b := range content {
				_, _ = conn.Write([]byte{b})
			}
			conn.Close()
		}
		if key, err := keyfile.Read(socketIn(t, slowly)); err != nil || !key.Equal(testkey.Key(0)) {
			t.Errorf("%s: %v, error %v", f, key, err)
		}
	}
}

func TestRead_SocketWithoutAKey(t *testing.T) {
	whole := keyfile.PEM.Encode(testkey.Key(0))
	for what, tc := range map[string]struct {
		answer func(net.Conn)
		want   error
		says   string
	}{
		"nothing":  {func(c net.Conn) { c.Close() }, keyfile.ErrSocketClosed, "the sidecar's log says why"},
		"half":     {func(c net.Conn) { _, _ = c.Write(whole[:len(whole)/2]); c.Close() }, keyfile.ErrNotKey, "truncated"},
		"too much": {func(c net.Conn) { _, _ = c.Write(make([]byte, 2*keyfile.MaxSize)); c.Close() }, keyfile.ErrNotKey, "larger than"},
	} {
		t.Run(what, func(t *testing.T) {
			path := socketIn(t, tc.answer)
			_, err := keyfile.Read(path)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestReadBytes_EndlessSocketTimesOut(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	path := socketIn(t, func(c net.Conn) {
		_, _ = c.Write(keyfile.PEM.Encode(testkey.Key(0)))
		<-stop // without an end
		c.Close()
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := keyfile.ReadBytes(ctx, path); !errors.Is(err, keyfile.ErrNotServed) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("error %v", err)
	}
}

func TestRead_DeadSocketIsNotServed(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if _, err := keyfile.Read(dead); !errors.Is(err, keyfile.ErrNotServed) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
	if _, err := keyfile.Read(filepath.Join(t.TempDir(), "none.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}

	// listening at a short path, and read by a long one
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 110))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(long)
	short, err := net.Listen("unix", "s.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	if _, err := keyfile.Read(filepath.Join(long, "s.sock")); !errors.Is(err, keyfile.ErrNotServed) || !strings.Contains(err.Error(), "at a shorter one") {
		t.Errorf("error %v", err)
	}
}

// A socket gives the same as a file of the same bytes, however the bytes arrive.
func FuzzRead_Socket(f *testing.F) {
	var answer atomic.Pointer[[2][]byte]
	path := socketIn(f, func(conn net.Conn) {
		for _, part := range answer.Load() {
			_, _ = conn.Write(part)
		}
		conn.Close()
	})
	for _, format := range keyfile.Formats {
		f.Add(format.Encode(testkey.Key(0)), uint(100))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n"), uint(3))
	f.Fuzz(func(t *testing.T, data []byte, cut uint) {
		at := cut % uint(len(data)+1)
		answer.Store(&[2][]byte{data[:at], data[at:]})
		got, err := keyfile.Read(path)
		if len(data) == 0 {
			if !errors.Is(err, keyfile.ErrSocketClosed) {
				t.Fatalf("nothing: error %v", err)
			}
			return
		}
		want, wantErr := keyfile.Parse(data)
		if (err == nil) != (wantErr == nil) || err == nil && !got.Equal(want) {
			t.Fatalf("%v, error %v; a file gives %v, error %v", got, err, want, wantErr)
		}
	})
}
