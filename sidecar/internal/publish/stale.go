package publish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/owner"
)

// tempName is a new name for a temporary file of the sidecar that has locked this byte. By the byte others know whether
// it still runs.
func tempName(at int64) string { return fmt.Sprintf("%s%x-%s", tempPrefix, at, rand.Text()) }

// oldAfter is the age from which the temporary file of a sidecar without a lock is a leftover: a write takes
// milliseconds.
const oldAfter = 5 * time.Minute

// removeLeftovers removes the files of sidecars that were killed in the middle of a write. A file that cannot be
// removed stays until the next start tries again.
func (p *Publisher) removeLeftovers(root *os.Root) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return
	}
	for _, e := range entries {
		temporary := strings.HasPrefix(e.Name(), tempPrefix) && p.isLeftover(root, e)
		note := strings.HasPrefix(e.Name(), RefusedPrefix) && isOlder(root, e, noteTime)
		if temporary || note {
			_ = root.Remove(e.Name())
		}
	}
}

// noteTime is the age from which a refusal's file is a leftover: a sidecar that runs writes it at each refresh.
const noteTime = 24 * time.Hour

// isOlder goes by the file system's clock.
func isOlder(root *os.Root, e fs.DirEntry, age time.Duration) bool {
	info, err := e.Info()
	now, ok := timeOf(root)
	return err == nil && ok && now.Sub(info.ModTime()) > age
}

func (p *Publisher) isLeftover(root *os.Root, e fs.DirEntry) bool {
	if e.IsDir() {
		return false // a key's directory, on its way to its name: the next one takes it over
	}
	hex, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), tempPrefix), "-")
	at, err := strconv.ParseInt(hex, 16, 64)
	if err != nil {
		return true // no sidecar of this version writes such a name
	}
	if at != 0 {
		return !p.lock.alive(at)
	}
	return isOlder(root, e, oldAfter)
}

// A former is what earlier sidecars published here, by their status.json, and this one no longer does.
type former struct {
	formats []keyfile.Format
	keys    []string // in subdirectories
}

func (f *former) remember(s keyfile.Status, published []keyfile.Format) {
	formats := s.Formats
	if s.Publishing != nil {
		formats = append(slices.Clone(formats), s.Publishing.Formats...)
	}
	for _, format := range formats {
		if slices.Contains(keyfile.Formats, format) && !slices.Contains(published, format) && !slices.Contains(f.formats, format) {
			f.formats = append(f.formats, format)
		}
	}
	for _, name := range s.Keys {
		if isKeyName(name) && !slices.Contains(f.keys, name) {
			f.keys = append(f.keys, name)
		}
	}
}

// sharedFor is how long the files of a sidecar of the same source stay after its end: it may only be restarting.
const sharedFor = time.Hour

// otherFormats are the formats that are not published here, and of which there is a file.
func (d Dir) otherFormats(root *os.Root) []keyfile.Format {
	return slices.DeleteFunc(slices.Clone(keyfile.Formats), func(f keyfile.Format) bool {
		info, err := root.Lstat(f.FileName())
		return slices.Contains(d.Formats, f) || err != nil || !info.Mode().IsRegular()
	})
}

// removeStale removes, after a publish, key files and sockets that no sidecar keeps fresh any more: those of other
// formats, and those of another layout. It needs the lock, without which another sidecar may still keep them fresh.
func (p *Publisher) removeStale() {
	root, err := p.open()
	if err != nil {
		return
	}
	defer root.Close()
	if p.lock.file == nil || !p.isAlone(root) || !p.sharedAt.IsZero() && time.Since(p.sharedAt) < sharedFor {
		return
	}
	for _, f := range p.former.formats {
		removeOwn(root, f.FileName())
	}
	p.former.formats = nil
	for _, f := range keyfile.Formats {
		if !slices.Contains(p.Serve, f) {
			removeOwn(root, f.SocketName())
		}
	}
	p.removeStaleConnections()
	p.former.keys = slices.DeleteFunc(p.former.keys, func(name string) bool { return sweep(filepath.Join(p.Path, name), true) })
	if p.InParent {
		sweep(filepath.Dir(p.Path), false)
	}
}

// sweep removes the files of a key directory that no sidecar has locked, and the directory itself if directory is set. It
// reports whether nothing of a key is left.
func sweep(path string, directory bool) bool {
	root, err := os.OpenRoot(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer root.Close()
	if !hasKey(root) && !directory {
		return true
	}
	var l lock
	defer l.release()
	if err := l.acquire(context.Background(), root, ""); err != nil { // no source is "", so no sidecar shares this lock
		return false
	}
	for _, name := range append(entryNames(keyfile.Formats, keyfile.Formats), keyfile.RefreshSocketName) {
		removeOwn(root, name)
	}
	if directory {
		removeConnectionsIn(root)
		removeOwn(root, keyfile.StatusName)
		removeOwn(root, LockName)
		_ = os.Remove(path) // if it is empty
	}
	return !hasKey(root)
}

func hasKey(root *os.Root) bool {
	return slices.ContainsFunc(entryNames(keyfile.Formats, keyfile.Formats), func(name string) bool {
		_, err := root.Lstat(name)
		return err == nil
	})
}

// removeOwn removes a file, or a socket, that is ours.
func removeOwn(root *os.Root, name string) {
	info, err := root.Lstat(name)
	if err == nil && (info.Mode().IsRegular() || info.Mode()&fs.ModeSocket != 0) && owner.IsOurs(info) {
		_ = root.Remove(name)
	}
}

// recordKeys writes the names of the keys in the subdirectories into the status.json of the parent. Keys that are no
// longer configured are removed first; one that another sidecar still publishes stays in the list.
func (p *Publisher) recordKeys() error {
	parent := p.parent()
	status, err := keyfile.ReadStatus(parent.Path)
	names := slices.Clone(p.Siblings)
	if err == nil {
		for _, name := range status.Keys {
			if !slices.Contains(names, name) && isKeyName(name) && !abandoned(filepath.Join(parent.Path, name)) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	connections := p.Connections != nil || err == nil && status.Connections // of another sidecar, or still to be removed
	if err == nil && slices.Equal(names, status.Keys) && connections == status.Connections {
		return nil
	}
	defer parent.Unlock()
	if err := parent.Lock(context.Background(), severalKeys); err != nil {
		return err
	}
	return parent.writeStatus(keyfile.Status{Schema: keyfile.StatusSchema, Keys: names, Connections: connections, Filesystem: parent.Filesystem()})
}

// parent publishes what is above the directories of several keys.
func (p *Publisher) parent() *Publisher {
	if p.top == nil {
		p.top = New(p.connectionsDir())
	}
	return p.top
}

// severalKeys is the source for which the directory above several keys is locked while their names are written.
const severalKeys = "several keys"

// abandonedAfter is how long the directory of a key that is no longer configured stays: another sidecar may only be
// restarting.
const abandonedAfter = time.Hour

// abandoned reports whether nothing of a key is left. It removes what no sidecar has changed for long.
func abandoned(path string) bool {
	root, err := os.OpenRoot(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer root.Close()
	info, err := root.Stat(keyfile.StatusName)
	now, ok := timeOf(root)
	if err == nil && hasKey(root) && (!ok || now.Sub(info.ModTime()) < abandonedAfter) {
		return false
	}
	return sweep(path, true)
}

// isKeyName refuses a name that leads out of the directory.
func isKeyName(name string) bool {
	return filepath.IsLocal(name) && filepath.Base(name) == name && name != "."
}
