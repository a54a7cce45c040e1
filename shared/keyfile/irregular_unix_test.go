//go:build unix

package keyfile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestRead_IrregularFiles(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} {
		if _, err := keyfile.Read(path); !errors.Is(err, keyfile.ErrNotRegular) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.Read(large); !errors.Is(err, keyfile.ErrNotKey) {
		t.Errorf("%s: error %v", large, err)
	}
}

func TestReadStatus_IrregularFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		put  func(path string) error
		want error
	}{
		"FIFO":  {func(path string) error { return syscall.Mkfifo(path, 0o600) }, keyfile.ErrNotRegular},
		"large": {func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte(" "), 1<<20), 0o600) }, keyfile.ErrNotStatus},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tc.put(filepath.Join(dir, keyfile.StatusName)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { _, err := keyfile.ReadStatus(dir); done <- err }()
			select {
			case err := <-done:
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), keyfile.StatusName) {
					t.Errorf("error %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the reader hangs")
			}
		})
	}
}
