package publish_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// A program that can only read takes every lock that there is. The sidecar publishes all the same.
func TestLock_ReadersStopNothing(t *testing.T) {
	held := map[string]func(t *testing.T, path string){
		"flock on the directory": func(t *testing.T, path string) { flock(t, open(t, filepath.Dir(path), os.O_RDONLY)) },
		"flock on the lock file": func(t *testing.T, path string) { asOwnerCan(t, path, func(f *os.File) { flock(t, f) }) },
		"read lock on all of it": func(t *testing.T, path string) { asOwnerCan(t, path, func(f *os.File) { readLock(t, f, 0, 0) }) },
		"read lock on the entry": func(t *testing.T, path string) { asOwnerCan(t, path, func(f *os.File) { readLock(t, f, 0, 1) }) },
	}
	for name, hold := range held {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			path := filepath.Join(d.Path, publish.LockName)
			if err := os.WriteFile(path, nil, 0o200); err != nil {
				t.Fatal(err)
			}
			hold(t, path)
			first := another(d)
			if err := first.Lock(t.Context(), thisSource); err != nil {
				t.Fatal(err)
			}
			put(t, first, testkey.Key(1))
			put(t, first, testkey.Key(0))
			if name != "read lock on all of it" {
				refused(t, another(d), otherSource)
			} else if first.Unlocked() == "" {
				t.Error("it says nothing about the lock")
			} else if says, _ := first.LockProblem(); says == "" {
				t.Error("the directory says nothing about the lock")
			}
		})
	}
}

// asOwnerCan opens the file as root does through a read-only mount, whatever the mode says.
func asOwnerCan(t *testing.T, path string, do func(*os.File)) {
	t.Helper()
	if os.Getuid() != 0 {
		if _, err := os.Open(path); !errors.Is(err, os.ErrPermission) {
			t.Errorf("the owner may read it: %v", err)
		}
		t.Skip("root alone can open the file")
	}
	do(open(t, path, os.O_RDONLY))
}

func open(t *testing.T, path string, how int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func flock(t *testing.T, f *os.File) {
	t.Helper()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
}

func readLock(t *testing.T, f *os.File, from, length int64) {
	t.Helper()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: from, Len: length}); err != nil {
		t.Fatal(err)
	}
}

// Many small read locks around a sidecar's lock hide it from no other sidecar.
func TestLock_ReadLocksHideNothing(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	asOwnerCan(t, filepath.Join(d.Path, publish.LockName), func(f *os.File) {
		for i := range int64(1000) {
			readLock(t, f, 1+2*i<<40, 1)
		}
		refused(t, another(d), otherSource)
		lock(t, another(d), thisSource)
	})
}

// A program that may write can hold the lock: then nothing is published, and that is said.
func TestLock_WriterIsRespected(t *testing.T) {
	d := dir(t)
	lock(t, another(d), thisSource)
	f := open(t, filepath.Join(d.Path, publish.LockName), os.O_WRONLY)
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}); err != nil {
		t.Skipf("the first one's lock is still there: %v", err)
	}
	refused(t, d, thisSource)
	f.Close()
	lock(t, d, thisSource)
}
