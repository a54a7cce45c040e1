// Package publish puts a key into the key directory so that a reader finds it complete, with its
// final owner and mode, or does not find it; and keeps status.json beside it.
//
// It never writes to a file that a reader may have open, never follows a symbolic link out of the
// directory, never replaces a key because of an error, and never changes a file whose content,
// owner and mode are already right.
package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
	"github.com/snowkey/snowkey/sidecar/internal/owner"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// statusMode lets any process that reaches the directory read the status: there is no secret in it.
const statusMode fs.FileMode = 0o444

// tempPrefix begins the name of every temporary file. A file with such a name is ours to delete.
const tempPrefix = ".snowkey-"

// A Dir is a key directory that this process publishes into.
type Dir struct {
	Path         string
	Formats      []keyfile.Format // of the key files
	Serve        []keyfile.Format // of the sockets
	Mode         fs.FileMode      // of the key files
	RequireTmpfs bool             // refuse a directory that is not in memory
	InParent     bool             // one of several keys: the directory is made within its parent, which lists them
	Siblings     []string         // InParent: the names of all keys, this one's included
	Connections  *Connections     // nil: none
	Interval     time.Duration
}

// A Publisher publishes one key into a Dir, which it locks. It is for one goroutine at a time.
type Publisher struct {
	Dir
	Server       *keysocket.Server // nil: none
	lock         lock
	problem      error     // why it is not locked
	refusedSince time.Time // zero if it is not
	wrote        string    // the source in the status that was written last
	source       string    // for which the directory was locked last
	sharedAt     time.Time // when another sidecar of that source was last seen
	former       former
	top          *Publisher // one of several keys: of the directory that lists them
}

// New makes a Publisher. Nothing is locked yet.
func New(d Dir) *Publisher { return &Publisher{Dir: d} }

// String is the path.
func (d Dir) String() string { return d.Path }

// Filesystem is the type of the filesystem that the directory is on.
func (d Dir) Filesystem() string { return Filesystem(d.Path) }

// Create creates the directory of one of several keys, with the parent's mode and set-group-ID bit, minus write for
// others, and lists the keys in the parent.
//
// Its error is of class locked while a sidecar of one key publishes in the parent.
func (p *Publisher) Create() error {
	if !p.InParent {
		return nil
	}
	if err := p.makeInParent(); err != nil {
		return err
	}
	return p.recordKeys()
}

func (d Dir) makeInParent() error {
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
		_ = root.Remove(tempPrefix + name) // left by one that was killed after another had been faster
		return parent.sync(root)           // its creator may have been killed before that
	case err == nil:
		return failure.New(keyfile.ClassFilesystem, fmt.Errorf("%s is not a directory", d.Path),
			"remove it: the key of this name has its files there")
	case !errors.Is(err, fs.ErrNotExist):
		return parent.explain("inspect", name, err)
	}
	above, err := root.Stat(".")
	if err != nil {
		return parent.explain("inspect", ".", err)
	}
	return parent.mkdir(root, name, above.Mode().Perm()&0o755|0o700|above.Mode()&fs.ModeSetgid)
}

// mkdir makes a directory that has its mode before it gets its name. It leaves an existing one as it is, and uses the
// temporary one that a predecessor left.
func (d Dir) mkdir(root *os.Root, name string, mode fs.FileMode) error {
	temp := tempPrefix + name
	if err := root.Mkdir(temp, mode.Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
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

// Key writes k in every format, serves it, and reports whether it changed a file or the served key.
//
// It writes a file with the right key again, for its mode or owner, only if no other sidecar shares the directory:
// another one of the same source may have other settings. While one does, Key also writes a new key into files of other
// formats that are there. Afterwards it removes files that no sidecar keeps fresh any more.
//
// Its errors are *failure.Error of class filesystem. After one, each file is either what it was or already the new key,
// complete.
func (p *Publisher) Key(k *keyfile.Key) (changed bool, err error) {
	secret.Do(func() { changed, err = p.key(k) })
	if p.Server != nil && (err == nil || len(p.Formats) == 0) { // a key that is only served needs no room on the volume
		served, serveErr := p.Server.Serve(k)
		changed, err = changed || served, errors.Join(err, serveErr)
	}
	if err == nil {
		p.removeStale()
	}
	return changed, err
}

func (p *Publisher) key(k *keyfile.Key) (changed bool, err error) {
	root, err := p.open()
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := p.announce(k); err != nil {
		return false, err
	}
	formats, alone := p.Formats, p.isAlone(root)
	if !alone && len(formats) > 0 { // without formats no key is written, whatever another sidecar does
		formats = append(slices.Clone(formats), p.otherFormats(root)...)
	}
	files := make([]file, 0, len(formats))
	for _, f := range formats {
		content := f.Encode(k)
		defer clear(content)
		mode := p.Mode
		if !alone {
			mode = modeOf(root, f.FileName(), mode)
		}
		files = append(files, file{f.FileName(), mode, content})
	}
	return p.putIn(root, files, alone)
}

// isAlone reports whether no other sidecar has the directory locked, and notes when one had.
func (p *Publisher) isAlone(root *os.Root) bool {
	alone := !p.lock.others(root)
	if !alone {
		p.sharedAt = time.Now()
	}
	return alone
}

// modeOf is the mode of an existing file, which another sidecar's readers need.
func modeOf(root *os.Root, name string, otherwise fs.FileMode) fs.FileMode {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return otherwise
	}
	return info.Mode().Perm()
}

// announce writes into status.json which key comes, unless the key is there: if the sidecar is killed before its next
// status, nothing else says whose the files are.
func (p *Publisher) announce(k *keyfile.Key) error {
	there, err := keyfile.ReadStatus(p.Path)
	if err != nil {
		there = keyfile.Status{Schema: keyfile.StatusSchema, Filesystem: p.Filesystem()}
	}
	p.former.remember(there, p.Formats)
	fingerprint := k.Fingerprint()
	if c := there.Publishing; there.Source != "" && there.Source != p.source || c != nil && c.Source != p.source {
		p.disconnect()
	}
	if there.Source == p.source && there.Fingerprint == fingerprint {
		return nil
	}
	if c := there.Publishing; c != nil && c.Source == p.source && c.Fingerprint == fingerprint && slices.Equal(c.Formats, p.Formats) {
		return nil
	}
	if c := there.Publishing; c != nil && p.find(c.Fingerprint) != nil { // its files are there, and its status never came
		there = keyfile.Status{Schema: there.Schema, Source: c.Source, Fingerprint: c.Fingerprint, Formats: c.Formats, Connections: there.Connections, Filesystem: there.Filesystem}
	}
	there.Publishing = &keyfile.PendingKey{Source: p.source, Fingerprint: fingerprint, Formats: p.Formats}
	return p.writeStatus(there)
}

// Status writes status.json, but not over that of a sidecar which publishes another source here.
func (p *Publisher) Status(s keyfile.Status) error {
	there, err := keyfile.ReadStatus(p.Path)
	if err == nil && !p.refusedSince.IsZero() && there.Source != "" && there.Source != s.Source {
		return nil
	}
	if err == nil {
		p.former.remember(there, p.Formats)
	}
	s.Formats, s.Serve = p.Formats, p.Serve
	s.Connections = p.hasConnection()
	p.wrote = s.Source
	return p.writeStatus(s)
}

func (p *Publisher) writeStatus(s keyfile.Status) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return p.put(file{keyfile.StatusName, statusMode, append(content, '\n')})
}

// EntryNames are the names of the key files and of the sockets.
func (d Dir) EntryNames() []string { return entryNames(d.Formats, d.Serve) }

func entryNames(files, sockets []keyfile.Format) (names []string) {
	for _, f := range files {
		names = append(names, f.FileName())
	}
	for _, f := range sockets {
		names = append(names, f.SocketName())
	}
	return names
}

// Check reports whether there is a valid key in every format, as a file or at a socket.
func (d Dir) Check() error {
	for _, name := range d.EntryNames() {
		if _, err := read(filepath.Join(d.Path, name)); err != nil {
			return err
		}
	}
	return nil
}

// readTimeout is how long a socket may take to give its key: its sidecar may hang.
const readTimeout = 2 * time.Second

func read(path string) (key *keyfile.Key, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	secret.Do(func() { key, err = keyfile.ReadContext(ctx, path) })
	return key, err
}

// Previous returns the key that a predecessor of the same source left, nil without one, and its status, zero without
// one. A key of another source stays until a new one replaces it, and counts for nothing.
func (p *Publisher) Previous(same func(source string) bool) (*keyfile.Key, keyfile.Status) {
	status, err := keyfile.ReadStatus(p.Path)
	if err != nil {
		return nil, keyfile.Status{}
	}
	if c := status.Publishing; c != nil && c.Source != "" && same(c.Source) { // it was killed while it published
		if key := p.find(c.Fingerprint); key != nil {
			return key, keyfile.Status{Schema: status.Schema, Source: c.Source, Fingerprint: c.Fingerprint, Formats: status.Formats}
		}
	}
	if status.Source == "" || !same(status.Source) {
		return nil, keyfile.Status{}
	}
	if key := p.find(status.Fingerprint); key != nil {
		status.Publishing = nil
		return key, status
	}
	return nil, keyfile.Status{}
}

// find reads the key of this fingerprint in any format, nil without one: a predecessor may have been killed between two
// formats, or have published others. A socket gives a key while another sidecar serves it.
func (d Dir) find(fingerprint string) *keyfile.Key {
	for _, name := range entryNames(keyfile.Formats, keyfile.Formats) {
		if key, err := read(filepath.Join(d.Path, name)); err == nil && key.Fingerprint() == fingerprint {
			return key
		}
	}
	return nil
}

// Newer returns the key that another sidecar of the same source has published here in the place of k, with its status;
// nil without one.
func (p *Publisher) Newer(k *keyfile.Key) (*keyfile.Key, keyfile.Status) {
	key, status := p.Previous(func(source string) bool { return source == p.source })
	if key == nil || key.Equal(k) {
		return nil, keyfile.Status{}
	}
	return key, status
}

// Disown removes status.json and the connection if they are about another source's key that no sidecar publishes. Until
// the end of the first refresh the health check would count that key, and clients would log in with it.
func (p *Publisher) Disown() {
	there, err := keyfile.ReadStatus(p.Path)
	if err != nil || there.Fingerprint == "" && len(there.Keys) == 0 && there.Publishing == nil {
		return
	}
	root, err := p.open()
	if err != nil {
		return
	}
	defer root.Close()
	if err := p.lock.search(root); errors.Is(err, errTaken) || err != nil && p.publishedByAnother(root, p.source) {
		return
	}
	p.former.remember(there, p.Formats)
	p.disconnect() // first: nothing but the status says whose the connection is
	_ = root.Remove(keyfile.StatusName)
}

// Conflict returns what is in the way: a file under one of the sidecar's names that it would not replace. It is nil if
// there is none.
func (d Dir) Conflict() error {
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
	for _, f := range d.Serve {
		if err := keysocket.Conflict(filepath.Join(d.Path, f.SocketName())); err != nil {
			return err
		}
	}
	return nil
}

// Published is the first valid key among the files and sockets, nil if there is none.
func (d Dir) Published() *keyfile.Key {
	for _, name := range d.EntryNames() {
		if k, err := read(filepath.Join(d.Path, name)); err == nil {
			return k
		}
	}
	return nil
}

// Differing is the first file or socket that holds another valid key, "" if none does.
func (d Dir) Differing(key *keyfile.Key) string {
	for _, name := range d.EntryNames() {
		if k, err := read(filepath.Join(d.Path, name)); err == nil && !k.Equal(key) {
			return name
		}
	}
	return ""
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
		// By the handle, not by the path: a mount may have come in between.
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
		return d.explain("inspect", name, err)
	}
	if !info.Mode().IsRegular() {
		return d.conflict(name, info.Mode())
	}
	return nil
}

// A file is a name in the directory, with the content and mode that belong there.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// put replaces a file in the directory as it is now.
func (p *Publisher) put(f file) error {
	root, err := p.open()
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = p.putIn(root, []file{f}, true)
	return err
}

// putIn replaces, by rename, the files that are not right yet; strict says that mode and owner count. It checks all and
// writes all under temporary names before it replaces the first, so that a conflict or a full disk leaves every file as
// it was.
func (p *Publisher) putIn(root *os.Root, files []file, strict bool) (changed bool, err error) {
	group := owner.GroupIn(root.Stat("."))
	staged := map[string]string{} // final name to temporary name
	defer func() {
		for _, temp := range staged {
			_ = root.Remove(temp)
		}
	}()
	for _, f := range files {
		if err := p.checkTarget(root, f.name); err != nil {
			return false, err
		}
		if f.isRight(root, group, strict) {
			continue
		}
		staged[f.name] = tempName(p.lock.at)
		if err := p.write(root, staged[f.name], f, group); err != nil {
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
			return changed, p.explain("rename into place", f.name, err)
		}
		delete(staged, f.name)
		changed = true
	}
	return changed, p.sync(root)
}

// isRight reports whether the file on disk has the content, and if strict the mode and the owner. Unless strict, an
// unreadable file of another user's sidecar counts as right.
func (f file) isRight(root *os.Root, group int, strict bool) bool {
	onDisk, err := root.Open(f.name)
	if err != nil {
		return !strict && errors.Is(err, fs.ErrPermission)
	}
	defer onDisk.Close()
	info, err := onDisk.Stat()
	if err != nil || info.Size() != int64(len(f.content)) {
		return false
	}
	if strict && (info.Mode() != f.mode || !owner.Has(info, group)) {
		return false
	}
	current := make([]byte, len(f.content))
	defer clear(current)
	_, err = io.ReadFull(onDisk, current)
	return err == nil && bytes.Equal(current, f.content)
}

// write makes a new file that has its final owner and mode before it gets its final name.
func (d Dir) write(root *os.Root, name string, f file, group int) error {
	temp, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return d.explain("create a file in", ".", err)
	}
	defer temp.Close()
	if _, err := temp.Write(f.content); err != nil {
		return d.explain("write a file in", ".", err)
	}
	// A directory with the set-group-id bit gives new files its own group, which may be none of this process.
	if err := temp.Chown(os.Getuid(), group); err != nil {
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

// sync makes a rename last through a power cut, on a filesystem that is on a disk.
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
