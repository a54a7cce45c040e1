package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOpen_FileCanBeReplaced(t *testing.T) {
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, name := range []string{"key", "new"} {
		if err := dir.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := open(filepath.Join(dir.Name(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := dir.Rename("new", "key"); err != nil {
		t.Error(err)
	}
	if data, err := readRegular(filepath.Join(dir.Name(), "key")); string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestRead_DirectoryIsNoFile(t *testing.T) {
	if _, err := Read(t.TempDir()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("error %v", err)
	}
}
