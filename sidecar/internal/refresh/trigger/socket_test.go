package trigger

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSockets_ConnectionsAreLimited(t *testing.T) {
	var refreshes atomic.Int64
	limiter := NewLimiter(LeastGap, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { limiter.Run(ctx, func() { refreshes.Add(1) }) })
	defer running.Wait()
	defer cancel()
	s := NewSockets(limiter.Request)
	defer s.Close()
	for range 5 {
		dir := t.TempDir()
		if _, err := s.Listen(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, keyfile.RefreshSocketName)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
			t.Errorf("%v, %v", info, err)
		}
		for range 10 {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("whatever"))
			c.Close()
		}
	}
	for deadline := time.Now().Add(time.Minute); refreshes.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	if n := refreshes.Load(); n != 1 {
		t.Errorf("50 connections to 5 sockets caused %d refreshes", n)
	}
}

func TestSockets_ListenReplacesStaleSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, keyfile.RefreshSocketName)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close() // as a killed predecessor leaves it

	requested := make(chan struct{}, 8)
	s := NewSockets(func() { requested <- struct{}{} })
	for _, prepare := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(path) }, // as it goes with a volume
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Listen(dir); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	<-requested
	s.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSockets_ListenKeepsOtherFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, keyfile.RefreshSocketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSockets(func() {})
	defer s.Close()
	if changed, err := s.Listen(dir); err == nil || !changed {
		t.Errorf("error %v, changed %v", err, changed)
	}
	if changed, err := s.Listen(dir); err == nil || changed {
		t.Errorf("the same error again: %v, changed %v", err, changed)
	}
	if data, _ := os.ReadFile(path); string(data) != "mine" {
		t.Errorf("the file has %q", data)
	}
}

// While two tasks overlap, the end of the first one leaves the socket of the second.
func TestSockets_CloseKeepsSocketOfSuccessor(t *testing.T) {
	dir := t.TempDir()
	first := NewSockets(func() {})
	if _, err := first.Listen(dir); err != nil {
		t.Fatal(err)
	}
	requested := make(chan struct{}, 1)
	second := NewSockets(func() { requested <- struct{}{} })
	defer second.Close()
	if _, err := second.Listen(dir); err != nil {
		t.Fatal(err)
	}
	first.Close()
	c, err := net.Dial("unix", filepath.Join(dir, keyfile.RefreshSocketName))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-requested
}
