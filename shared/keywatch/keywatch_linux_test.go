package keywatch_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A bind mount of the one file stays on its inode, and what is written to that gives the directory of
// the mount point no event. Only looking helps.
func TestABindMountOfTheFileAlone(t *testing.T) {
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

// As with a tmpfs volume whose last container ended and whose next one began.
func TestARemount(t *testing.T) {
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
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		expectErr(t, w, true)
		mount()
		publish(t, path, n%2)
		expect(t, w, n%2)
	}
	w.Close()
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}
