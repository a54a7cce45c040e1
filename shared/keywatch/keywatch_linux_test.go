package keywatch_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

// A bind mount of the single file stays on its inode, and a write to that causes no event in the directory of
// the mount point. Only polling notices it.
func TestWatcher_BindMountOfFile(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source.der")
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, source, 0)
	publish(t, path, 0)
	if err := syscall.Mount(source, path, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	defer func() { _ = syscall.Unmount(path, 0) }()
	w := open(t, path, 20*time.Millisecond)
	if err := os.WriteFile(source, keyfile.DER.Encode(testkey.Key(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, w, 1)
}

// As with a tmpfs volume after its last container has ended and the next one has started.
func TestWatcher_Remount(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rsa_key.der")
	mount := func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("cannot mount here: %v", err)
		}
	}
	mount()
	publish(t, path, 0)
	w := open(t, path, 20*time.Millisecond)
	for n := 1; n < 4; n++ {
		unmount(t, dir)
		expectErr(t, w, true)
		mount()
		publish(t, path, n%2)
		expect(t, w, n%2)
	}
	w.Close()
	unmount(t, dir)
}

// unmount waits until nothing has a file open there: the watcher reads it often.
func unmount(t *testing.T, dir string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = syscall.Unmount(dir, 0); !errors.Is(err, syscall.EBUSY) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A user namespace can have a limit of zero inotify instances, as on a system that has no more. The test runs
// itself in one.
func TestWatcher_NamespaceWithoutInotify(t *testing.T) {
	const inside = "KEYWATCH_WITHOUT_INOTIFY"
	if os.Getenv(inside) == "" {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inside+"=yes")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		out, err := again.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("cannot make a user namespace here: %v", err)
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if watcher, err := fsnotify.NewWatcher(); err == nil {
		watcher.Close()
		t.Fatal("inotify can be used here")
	}
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	log := newLog()
	w := open(t, path, 20*time.Millisecond, keywatch.WithLogger(log.logger()))
	for n := 1; n < 4; n++ {
		publish(t, path, n%2)
		expect(t, w, n%2)
	}
	lines, _ := log.of(noEvents)
	if len(lines) != 1 || !strings.Contains(lines[0].attrs["advice"], "fs.inotify.max_user_instances") {
		t.Errorf("log:\n%s", log)
	}
}
