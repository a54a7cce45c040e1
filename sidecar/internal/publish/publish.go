// Package publish puts a key into the key directory so that a reader finds it complete, with its
// final owner and mode, or does not find it; and keeps status.json beside it.
//
// It never writes to a file that a reader may have open, never follows a symbolic link out of the
// directory, never replaces a key because of an error, and never changes a file whose content,
// owner and mode are already right.
package publish

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// statusMode lets any process that reaches the directory read the status: there is no secret in it.
const statusMode fs.FileMode = 0o444

// temporary files carry this prefix; a name that starts with it is ours to delete.
const tempPrefix = ".snowkey-"

// A Dir is a key directory that this process publishes into.
type Dir struct {
	Path         string
	Formats      []keyfile.Format
	Mode         fs.FileMode // of the key files
	RequireTmpfs bool        // refuse a directory that is not in memory
	Made         bool        // the directory is made within its parent, where there is none
}

// String is the path.
func (d Dir) String() string { return d.Path }

// Filesystem is the type of the filesystem that the directory is on.
func (d Dir) Filesystem() string { return Filesystem(d.Path) }

// Create makes a directory that is to be made. It has the mode of its parent, but that nobody else may
// write there.
func (d Dir) Create() error {
	if !d.Made {
		return nil
	}
	parent := Dir{Path: filepath.Dir(d.Path), RequireTmpfs: d.RequireTmpfs}
	root, err := parent.open()
	if err != nil {
		return err
	}
	defer root.Close()
	name := filepath.Base(d.Path)
	info, err := root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		_ = root.Remove(tempPrefix + name) // of one that was killed when another had been faster
		return parent.sync(root)           // whoever made it may have been killed before that
	case err == nil:
		return failure.New(keyfile.ClassFilesystem, fmt.Errorf("%s is not a directory", d.Path),
			"remove it: the key of this name has its files there")
	case !errors.Is(err, fs.ErrNotExist):
		return parent.explain("look at", name, err)
	}
	above, err := root.Stat(".")
	if err != nil {
		return parent.explain("look at", ".", err)
	}
	return parent.mkdir(root, name, above.Mode().Perm()&0o755|0o700)
}

// mkdir makes a directory that has its mode before it gets its name: one that is there is left as it is. What a
// predecessor left of that is used.
func (d Dir) mkdir(root *os.Root, name string, mode fs.FileMode) error {
	temp := tempPrefix + name
	if err := root.Mkdir(temp, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return d.explain("make the directory", name, err)
	}
	if info, err := root.Lstat(temp); err == nil && !info.IsDir() {
		return failure.New(keyfile.ClassFilesystem, fmt.Errorf("%s is not a directory", filepath.Join(d.Path, temp)), "remove it")
	}
	made, err := root.Open(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return d.sync(root) // another sidecar has given it its name
	}
	if err != nil {
		return d.explain("open", name, err)
	}
	defer made.Close()
	if err := made.Chmod(mode); err != nil { // whatever the umask
		return d.explain("set the mode of", name, err)
	}
	if err := made.Sync(); err != nil && !cannotSync(err) {
		return d.explain("sync", name, err)
	}
	err = root.Rename(temp, name)
	if errors.Is(err, fs.ErrExist) { // another sidecar's is there
		err = root.Remove(temp)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.explain("make the directory", name, err)
	}
	return d.sync(root)
}

// Key writes k in every format and reports whether any file had to be changed.
//
// Its errors are *failure.Error of class filesystem. After one, each file is either what it was or
// already the new key, complete.
func (d Dir) Key(k *keyfile.Key) (changed bool, err error) {
	secret.Do(func() { changed, err = d.key(k) })
	return changed, err
}

func (d Dir) key(k *keyfile.Key) (changed bool, err error) {
	files := make([]file, 0, len(d.Formats))
	for _, f := range d.Formats {
		content := f.Encode(k)
		defer clear(content)
		files = append(files, file{f.FileName(), d.Mode, content})
	}
	return d.put(files)
}

// Status writes status.json.
func (d Dir) Status(s keyfile.Status) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = d.put([]file{{keyfile.StatusName, statusMode, append(content, '\n')}})
	return err
}

// CleanUp removes what a predecessor, killed in the middle of a write, left behind.
func (d Dir) CleanUp() error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return d.explain("read", ".", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if err := root.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d.explain("remove the leftover", e.Name(), err)
		}
	}
	return nil
}

// Check reports whether a valid key is on disk in every format. The files may hold different keys
// for the moment between two renames, which is no reason to call a container unhealthy.
func (d Dir) Check() error {
	for _, f := range d.Formats {
		if _, err := read(filepath.Join(d.Path, f.FileName())); err != nil {
			return err
		}
	}
	return nil
}

func read(path string) (key *keyfile.Key, err error) {
	secret.Do(func() { key, err = keyfile.Read(path) })
	return key, err
}

// Left is what a predecessor left: its key, nil if there is no valid one on disk, and its status as that
// of a sidecar with this source.
func (d Dir) Left(source string) (*keyfile.Key, keyfile.Status) {
	status := keyfile.Status{}
	key := d.Published()
	if key != nil {
		if left, err := keyfile.ReadStatus(d.Path); err == nil && left.Fingerprint == key.Fingerprint() {
			status = left
			if left.Source != source {
				status.Version, status.StoredAt = "", time.Time{} // another parameter's
			}
		}
		status.Fingerprint = key.Fingerprint()
	}
	status.Schema = keyfile.StatusSchema
	status.Source = source
	status.Filesystem = Filesystem(d.Path)
	return key, status
}

// Obstacle is what stands under one of the names that are written and would not be replaced, nil if there is
// none.
func (d Dir) Obstacle() error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close()
	names := []string{keyfile.StatusName}
	for _, f := range d.Formats {
		names = append(names, f.FileName())
	}
	for _, name := range names {
		if err := d.checkTarget(root, name); err != nil {
			return err
		}
	}
	return nil
}

// Published is the key that is on disk, nil if there is no valid one.
func (d Dir) Published() *keyfile.Key {
	for _, f := range d.Formats {
		if k, err := read(filepath.Join(d.Path, f.FileName())); err == nil {
			return k
		}
	}
	return nil
}

// open gives a handle on the directory as it is now; it may have been mounted anew since.
func (d Dir) open() (*os.Root, error) {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		if info, statErr := os.Stat(d.Path); statErr == nil && !info.IsDir() {
			err = syscall.ENOTDIR // which OpenRoot does not wrap
		}
		return nil, d.explain("open", ".", err)
	}
	if d.RequireTmpfs {
		// Of the handle, not of the path: a mount may have come in between.
		if fsType := filesystemOf(root); !InMemory(fsType) {
			root.Close()
			return nil, d.notInMemory(fsType)
		}
	}
	return root, nil
}

func (d Dir) checkTarget(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.explain("look at", name, err)
	}
	if !info.Mode().IsRegular() {
		return d.obstacle(name, info.Mode())
	}
	return nil
}

// A file is a name in the directory and what belongs under it.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// put replaces by rename those files that are not already as they should be. All are looked at and
// written under temporary names before the first is replaced, so that an obstacle or a full disk
// leaves every one of them as it was.
func (d Dir) put(files []file) (changed bool, err error) {
	root, err := d.open()
	if err != nil {
		return false, err
	}
	defer root.Close()

	staged := map[string]string{} // final name to temporary name
	defer func() {
		for _, temp := range staged {
			_ = root.Remove(temp)
		}
	}()
	for _, f := range files {
		if err := d.checkTarget(root, f.name); err != nil {
			return false, err
		}
		if f.asItShouldBe(root) {
			continue
		}
		staged[f.name] = tempPrefix + rand.Text()
		if err := d.write(root, staged[f.name], f); err != nil {
			return false, err
		}
	}
	if len(staged) == 0 {
		return false, nil
	}
	for _, f := range files {
		temp, ok := staged[f.name]
		if !ok {
			continue
		}
		if err := root.Rename(temp, f.name); err != nil {
			return changed, d.explain("rename into place", f.name, err)
		}
		delete(staged, f.name)
		changed = true
	}
	return changed, d.sync(root)
}

func (f file) asItShouldBe(root *os.Root) bool {
	onDisk, err := root.Open(f.name)
	if err != nil {
		return false
	}
	defer onDisk.Close()
	info, err := onDisk.Stat()
	if err != nil || info.Mode() != f.mode || info.Size() != int64(len(f.content)) || !ownedByUs(info) {
		return false
	}
	current := make([]byte, len(f.content))
	defer clear(current)
	_, err = io.ReadFull(onDisk, current)
	return err == nil && bytes.Equal(current, f.content)
}

// write makes a new file that has its final owner and mode before it gets its final name.
func (d Dir) write(root *os.Root, name string, f file) error {
	temp, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return d.explain("create a file in", ".", err)
	}
	defer temp.Close()
	if _, err := temp.Write(f.content); err != nil {
		return d.explain("write a file in", ".", err)
	}
	// A directory with the set-group-id bit gives new files its own group.
	if err := temp.Chown(os.Getuid(), os.Getgid()); err != nil {
		return d.explain("set the owner of a file in", ".", err)
	}
	if err := temp.Chmod(f.mode); err != nil {
		return d.explain("set the mode of a file in", ".", err)
	}
	if err := temp.Sync(); err != nil {
		return d.explain("sync a file in", ".", err)
	}
	if err := temp.Close(); err != nil {
		return d.explain("close a file in", ".", err)
	}
	return nil
}

// sync makes the rename itself last, on a filesystem that keeps anything.
func (d Dir) sync(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return d.explain("open", ".", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !cannotSync(err) {
		return d.explain("sync", ".", err)
	}
	return nil
}
