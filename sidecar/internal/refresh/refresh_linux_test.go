package refresh

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A rename of the second format fails, here because something is mounted over it, as every look finds
// again. The first format must not go back and forth.
func TestAPublishThatFailsHalfWayIsNotUndone(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Look(t.Context())
	pem := filepath.Join(f.Dir.Path, "rsa_key.pem")
	if err := syscall.Mount(pem, pem, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	defer func() { _ = syscall.Unmount(pem, 0) }()
	f.source.set(testkey.Key(1))
	f.log.Reset()
	for range 3 {
		if err := f.Look(t.Context()); failure.Class(err) != keyfile.ClassFilesystem {
			t.Errorf("error %v", err)
		}
		f.expect(t, testkey.Key(1))
	}
	if n := strings.Count(f.log.String(), "key published"); n != 1 {
		t.Errorf("published %d times:\n%s", n, f.log)
	}
}
