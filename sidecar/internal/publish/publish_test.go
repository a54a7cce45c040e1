//go:build unix

package publish_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

func dir(t *testing.T) *publish.Publisher {
	return publish.New(publish.Dir{Path: t.TempDir(), Formats: keyfile.Formats, Mode: 0o440})
}

func put(t *testing.T, d *publish.Publisher, k *keyfile.Key) bool {
	t.Helper()
	changed, err := d.Key(k)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func names(t *testing.T, d *publish.Publisher) string {
	t.Helper()
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestKey_IsThereInEveryFormatWithItsMode(t *testing.T) {
	d := dir(t)
	if !put(t, d, testkey.Key(0)) {
		t.Error("the first key changed nothing")
	}
	for _, f := range keyfile.Formats {
		path := filepath.Join(d.Path, f.FileName())
		k, err := keyfile.Read(path)
		if err != nil || !k.Equal(testkey.Key(0)) {
			t.Errorf("%s: %v, %v", path, k, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o440 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if got := names(t, d); got != "rsa_key.b64 rsa_key.der rsa_key.pem rsa_key.pem.b64 status.json" {
		t.Errorf("the directory has %s", got)
	}
}

func TestKey_UnchangedIsNotWritten(t *testing.T) {
	d := dir(t)
	put(t, d, testkey.Key(0))
	before := inode(t, d)
	if put(t, d, testkey.Key(0)) {
		t.Error("changed")
	}
	if inode(t, d) != before {
		t.Error("the file was replaced")
	}
	d.Mode = 0o400
	if !put(t, d, testkey.Key(0)) {
		t.Error("another mode changed nothing")
	}
	if info, _ := os.Stat(filepath.Join(d.Path, "rsa_key.der")); info.Mode() != 0o400 {
		t.Errorf("mode %v", info.Mode())
	}
}

func inode(t *testing.T, d *publish.Publisher) uint64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(d.Path, "rsa_key.der"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// A reader that opened the old file goes on reading the old key.
func TestKey_OpenFileKeepsItsContent(t *testing.T) {
	d := dir(t)
	put(t, d, testkey.Key(0))
	f, err := os.Open(filepath.Join(d.Path, "rsa_key.der"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put(t, d, testkey.Key(1))
	content := make([]byte, 4096)
	n, _ := f.Read(content)
	if k, err := keyfile.Parse(content[:n]); err != nil || !k.Equal(testkey.Key(0)) {
		t.Errorf("%v, %v", k, err)
	}
}

func TestKey_ReadersAlwaysFindAWholeKeyWithItsMode(t *testing.T) {
	testenv.Slow(t)
	d := dir(t)
	put(t, d, testkey.Key(0))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, f := range keyfile.Formats {
		path := filepath.Join(d.Path, f.FileName())
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if k, err := keyfile.Read(path); err != nil || !k.Equal(testkey.Key(0)) && !k.Equal(testkey.Key(1)) {
					t.Errorf("%s: %v, %v", path, k, err)
					return
				}
				if info, err := os.Stat(path); err != nil || info.Mode() != 0o440 {
					t.Errorf("%s: %v, %v", path, info, err)
					return
				}
			}
		})
	}
	for i := range 100 {
		put(t, d, testkey.Key(i%2))
	}
	close(stop)
	readers.Wait()
}

// Whatever stands in the way at one file, none is touched.
func TestKey_ConflictLeavesTheOldKey(t *testing.T) {
	for name, obstruct := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"not a regular":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			put(t, d, testkey.Key(0))
			path := filepath.Join(d.Path, d.Formats[len(d.Formats)-1].FileName())
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := obstruct(path); err != nil {
				t.Fatal(err)
			}
			before := names(t, d)
			_, err := d.Key(testkey.Key(1))
			if failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v", err)
			}
			if k := d.Published(); !k.Equal(testkey.Key(0)) {
				t.Errorf("on disk is %v", k)
			}
			if after := names(t, d); after != before {
				t.Errorf("the directory had %s and has %s", before, after)
			}
		})
	}
}

// A limit on the size of files stands in for a full disk: both fail in the middle of a write, and
// this one needs no mount.
func TestKey_FailedWriteLeavesNothing(t *testing.T) {
	d := dir(t)
	put(t, d, testkey.Key(0))
	before := names(t, d)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperProcess_Limited$")
	child.Env = append(os.Environ(), limitedDir+"="+d.Path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if k := d.Published(); !k.Equal(testkey.Key(0)) {
		t.Errorf("on disk is %v", k)
	}
	if after := names(t, d); after != before {
		t.Errorf("the directory had %s and has %s", before, after)
	}
}

const limitedDir = "TEST_LIMITED_DIR"

// The limit is one of the process, which has files of its own to write: hence a process for this alone.
func TestHelperProcess_Limited(t *testing.T) {
	path := os.Getenv(limitedDir)
	if path == "" {
		t.Skip("this is a part of TestKey_FailedWriteLeavesNothing")
	}
	// The DER file of 1.2 KB fits, the PEM file of 1.7 KB does not.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1400, Max: 1400}); err != nil {
		t.Fatal(err)
	}
	d := publish.New(publish.Dir{Path: path, Formats: keyfile.Formats, Mode: 0o440})
	if _, err := d.Key(testkey.Key(1)); failure.Class(err) != keyfile.ClassFilesystem {
		t.Errorf("error %v", err)
	}
}

func TestKey_DirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "create the directory: mkdir ",
		file:                               "--dir takes the directory",
	} {
		d := publish.New(publish.Dir{Path: path, Formats: keyfile.Formats, Mode: 0o440})
		_, err := d.Key(testkey.Key(0))
		if failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v lacks %q", path, err, want)
		}
	}
}

func TestStatus_IsReadableByAll(t *testing.T) {
	d := dir(t)
	wrote := keyfile.Status{Schema: keyfile.StatusSchema, Fingerprint: "SHA256:x", Filesystem: publish.Filesystem(d.Path)}
	if err := d.Status(wrote); err != nil {
		t.Fatal(err)
	}
	if read, err := keyfile.ReadStatus(d.Path); err != nil || read.Fingerprint != wrote.Fingerprint || !slices.Equal(read.Formats, d.Formats) {
		t.Errorf("read %+v, %v", read, err)
	}
	path := filepath.Join(d.Path, keyfile.StatusName)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o444 {
		t.Errorf("%v, %v", info, err)
	}
	data, _ := os.ReadFile(path)
	if !json.Valid(data) || !strings.HasSuffix(string(data), "}\n") {
		t.Errorf("%s", data)
	}
}

func TestCheck_WantsEveryFormat(t *testing.T) {
	d := dir(t)
	put(t, d, testkey.Key(0))
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(d.Path, "rsa_key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err == nil {
		t.Error("valid without its PEM file")
	}
}

func TestKey_RequireTmpfs(t *testing.T) {
	d := dir(t)
	d.RequireTmpfs = true
	_, err := d.Key(testkey.Key(0))
	if fsType := publish.Filesystem(d.Path); fsType == "tmpfs" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "--require-tmpfs") || names(t, d) != "" {
		t.Errorf("error %v, and the directory has %q", err, names(t, d))
	}
}

func TestCreate_DirectoryIsLikeItsParent(t *testing.T) {
	for _, tc := range []struct{ parent, want os.FileMode }{{0o750, 0o750}, {0o777 | os.ModeSticky, 0o755}, {0o700, 0o700}} {
		parent := t.TempDir()
		if err := os.Chmod(parent, tc.parent); err != nil {
			t.Fatal(err)
		}
		d := publish.New(publish.Dir{Path: filepath.Join(parent, "etl"), InParent: true, Siblings: []string{"etl"}})
		for range 2 {
			if err := d.Create(); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := os.Stat(d.Path); err != nil || info.Mode() != os.ModeDir|tc.want {
			t.Errorf("in %v: %v, %v", tc.parent, info.Mode(), err)
		}
	}
	parent := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(parent, "etl")); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(parent, "etl"):         "is not a directory",
		filepath.Join(parent, "none", "etl"): "create the directory: mkdir " + filepath.Join(parent, "none"),
	} {
		err := publish.New(publish.Dir{Path: path, InParent: true, Siblings: []string{"etl"}}).Create()
		if failure.Class(err) != keyfile.ClassFilesystem || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v lacks %q", err, says)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(parent, ".snowkey-fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := publish.New(publish.Dir{Path: filepath.Join(parent, "fifo"), InParent: true, Siblings: []string{"etl"}}).Create(); err == nil || !strings.HasSuffix(err.Error(), ".snowkey-fifo is not a directory; remove it") {
		t.Error(err)
	}
	if err := publish.New(publish.Dir{Path: filepath.Join(parent, "other")}).Create(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(parent, "other")); err == nil {
		t.Error("a directory that is to be mounted was made")
	}
}

// Sidecars that start together make one directory, and use what one that was killed has left of it.
func TestCreate_ByManyAtOnce(t *testing.T) {
	testenv.Slow(t)
	for range 50 {
		parent := t.TempDir()
		if err := os.Mkdir(filepath.Join(parent, ".snowkey-etl"), 0o700); err != nil {
			t.Fatal(err)
		}
		d := publish.Dir{Path: filepath.Join(parent, "etl"), InParent: true, Siblings: []string{"etl"}}
		var sidecars sync.WaitGroup
		for range 8 {
			sidecars.Go(func() {
				if err := publish.New(d).Create(); err != nil {
					t.Error(err)
				}
			})
		}
		sidecars.Wait()
		if err := publish.New(d).Create(); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 3 || entries[0].Name() != "etl" || entries[1].Name() != publish.LockName || entries[2].Name() != keyfile.StatusName {
			t.Fatalf("there are %v, %v", entries, err)
		}
		if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o755 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
	}
}

func TestConflict_IsFoundWithoutWriting(t *testing.T) {
	d := dir(t)
	if err := d.Conflict(); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(d.Path, "rsa_key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := d.Conflict(); err == nil || !strings.Contains(err.Error(), "rsa_key.pem is a symbolic link") {
		t.Errorf("error %v", err)
	}
	if got := names(t, d); got != "rsa_key.pem" {
		t.Errorf("the directory has %s", got)
	}
}
