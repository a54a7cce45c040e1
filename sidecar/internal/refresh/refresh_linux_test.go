package refresh

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// The rename of the second format fails at each refresh, here because something is mounted over it. The first format must
// not go back and forth.
func TestRefresher_HalfPublishedKeyIsNotUndone(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Refresh(t.Context())
	pem := filepath.Join(f.Dir.Path, "rsa_key.pem")
	if err := syscall.Mount(pem, pem, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	defer func() { _ = syscall.Unmount(pem, 0) }()
	f.source.set(testkey.Key(1))
	f.log.Reset()
	for range 3 {
		if err := f.Refresh(t.Context()); failure.Class(err) != keyfile.ClassFilesystem {
			t.Errorf("error %v", err)
		}
		f.expect(t, testkey.Key(1))
	}
	if n := strings.Count(f.log.String(), "key published"); n != 1 {
		t.Errorf("published %d times:\n%s", n, f.log)
	}
}
