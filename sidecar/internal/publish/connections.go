package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/owner"
)

// Connections are connections.toml and config.toml, one pair for all keys of a sidecar. They are in the key directory of a
// single key, and above the directories of several. The Publishers of all these keys share it.
//
// A connection is in the file as soon as its key is on disk, but not while another source's key is there.
type Connections struct {
	Mode  fs.FileMode
	Names []string // of the connections, the default one first; of several keys their names

	mu    sync.Mutex
	known map[string]connections.Section // by name; the zero Section for one that must not be there
	wrote []byte                         // what this process last wrote
}

// errNotOurs is for a file that somebody else wrote.
var errNotOurs = errors.New("another program wrote it, since the first line is not snowkey's")

var connectionNames = []string{connections.FileName, connections.ConfigName}

// maxConnections bounds a file that is read, in bytes: a connection has less than 4 KiB.
const maxConnections = 4 << 20

// Connect writes the connection of the key that is on disk. The other connections stay.
//
// Its errors are *failure.Error of class filesystem or locked, for instance if somebody else wrote one of the files.
func (p *Publisher) Connect(c connections.Connection) error {
	name, all := p.connectionName(), p.Connections
	all.mu.Lock()
	defer all.mu.Unlock()
	all.setKnown(name, c.Section(name))
	root, err := p.open()
	if err != nil {
		return err
	}
	defer root.Close()
	alone := p.isAlone(root)
	if !p.InParent {
		return all.write(p, alone, nil)
	}
	return p.aboveKeys(func(top *Publisher) error {
		status, err := keyfile.ReadStatus(top.Path)
		if err != nil {
			return top.explain("read", keyfile.StatusName, err)
		}
		return all.write(top, alone, status.Keys)
	})
}

// aboveKeys calls f with the directory above those of several keys, while no other process changes the files there.
func (p *Publisher) aboveKeys(f func(top *Publisher) error) error {
	top := p.parent()
	defer top.Unlock()
	if err := top.Lock(context.Background(), severalKeys); err != nil {
		return err
	}
	return top.lock.exclusively(context.Background(), func() error { return f(top) })
}

// disconnect removes the connection: the key on disk is, or will soon be, of another source than the connection.
func (p *Publisher) disconnect() {
	if !p.InParent {
		p.removeConnections()
		return
	}
	name := p.connectionName()
	if c := p.Connections; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.setKnown(name, connections.Section{})
	}
	_ = p.aboveKeys(func(top *Publisher) error { return top.dropConnection(name) })
}

// dropConnection removes one connection, and the default one if it is the same. If it cannot write the others, it
// removes all.
func (p *Publisher) dropConnection(name string) error {
	root, err := p.open()
	if err != nil {
		return err
	}
	defer root.Close()
	there, err := readOurs(root, connections.FileName)
	if err != nil {
		return err
	}
	all := connections.Sections(there)
	at := indexOf(all, name)
	if at < 0 {
		return nil
	}
	asDefault := all[at].As(connections.Default)
	rest := slices.DeleteFunc(slices.Clone(all), func(s connections.Section) bool { return s == all[at] || s == asDefault })
	kept := file{connections.FileName, modeOf(root, connections.FileName, 0o600), connections.File(rest)}
	if _, err := p.putIn(root, []file{kept}, true); err != nil {
		return root.Remove(connections.FileName)
	}
	return nil
}

func (c *Connections) setKnown(name string, s connections.Section) {
	if c.known == nil {
		c.known = map[string]connections.Section{}
	}
	c.known[name] = s
}

func (d Dir) connectionName() string {
	if d.InParent {
		return filepath.Base(d.Path)
	}
	return connections.Default
}

// write replaces the files, and keeps the connections of other sidecars' keys. Beside another sidecar of the same source,
// which may have other settings, the last one that started wins.
func (c *Connections) write(at *Publisher, alone bool, keys []string) error {
	root, err := at.open()
	if err != nil {
		return err
	}
	defer root.Close()
	there, err := at.ourConnections(root)
	if err != nil {
		return err
	}
	content := connections.File(c.sections(at.Path, connections.Sections(there), keys))
	if !alone && there != nil && bytes.Equal(content, c.wrote) {
		return nil
	}
	files := []file{
		{connections.FileName, c.Mode, content},
		{connections.ConfigName, c.Mode, connections.Config()},
	}
	if _, err := at.putIn(root, files, true); err != nil {
		return err
	}
	c.wrote = content
	return nil
}

// sections are the sections of the file: the default connection, those of this sidecar's keys, and from the file on
// disk those of other sidecars' keys. A key whose login is not known yet keeps its connection, and another sidecar
// keeps its default.
func (c *Connections) sections(dir string, there []connections.Section, keys []string) []connections.Section {
	var all []connections.Section
	for _, name := range c.Names {
		if s, known := c.known[name]; known && s.Name != "" {
			all = append(all, s)
		} else if i := indexOf(there, name); !known && i >= 0 && hasStatus(filepath.Join(dir, name)) {
			all = append(all, there[i])
		}
	}
	var others []connections.Section
	for _, s := range there {
		if slices.Contains(keys, s.Name) && !slices.Contains(c.Names, s.Name) {
			others = append(others, s)
		}
	}
	i := indexOf(there, connections.Default)
	othersDefault := i >= 0 && slices.ContainsFunc(others, func(s connections.Section) bool { return s.As(connections.Default) == there[i] })
	switch first := c.Names[0]; {
	case othersDefault && indexOf(all, connections.Default) < 0 && indexOf(others, connections.Default) < 0:
		all = slices.Insert(all, 0, there[i])
	case !othersDefault && first != connections.Default && len(all) > 0 && all[0].Name == first:
		all = slices.Insert(all, 0, all[0].As(connections.Default))
	}
	return append(all, others...)
}

func indexOf(all []connections.Section, name string) int {
	return slices.IndexFunc(all, func(s connections.Section) bool { return s.Name == name })
}

// hasStatus reports whether a sidecar publishes a key in the directory.
func hasStatus(path string) bool {
	s, err := keyfile.ReadStatus(path)
	return err == nil && s.Fingerprint != ""
}

// ourConnections is the content of connections.toml, nil without one, if neither file is somebody else's.
func (d Dir) ourConnections(root *os.Root) ([]byte, error) {
	var contents [][]byte
	for _, name := range connectionNames {
		if err := d.checkTarget(root, name); err != nil {
			return nil, err
		}
		content, err := readOurs(root, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failure.New(keyfile.ClassFilesystem, fmt.Errorf("cannot replace %s: %w", filepath.Join(d.Path, name), err), connectionsAdvice(err))
		}
		contents = append(contents, content)
	}
	return contents[0], nil
}

// readOurs reads one of the files. Its error is errNotOurs if somebody else wrote it.
func readOurs(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errNotOurs)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxConnections))
	if err == nil && !connections.IsOurs(content) {
		err = errNotOurs
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// connectionsDir is the directory of the connection files.
func (d Dir) connectionsDir() Dir {
	if d.InParent {
		return Dir{Path: filepath.Dir(d.Path), RequireTmpfs: d.RequireTmpfs}
	}
	return d
}

// ConnectionsPath is the path of connections.toml.
func (d Dir) ConnectionsPath() string {
	return filepath.Join(d.connectionsDir().Path, connections.FileName)
}

// ReadConnections is the content of connections.toml, nil without one. Its error is why that or config.toml would not be
// replaced.
func (d Dir) ReadConnections() ([]byte, error) {
	at := d.connectionsDir()
	root, err := at.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return at.ourConnections(root)
}

// removeConnections removes the files that a sidecar left here.
func (d Dir) removeConnections() {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return
	}
	defer root.Close()
	removeConnectionsIn(root)
}

func removeConnectionsIn(root *os.Root) {
	for _, name := range connectionNames {
		if _, err := readOurs(root, name); err == nil {
			removeOwn(root, name)
		}
	}
}

// removeStaleConnections removes the files that an earlier sidecar has left: one with --connections, if this one has
// none, or one with another layout of keys.
func (p *Publisher) removeStaleConnections() {
	if p.InParent || p.Connections == nil {
		p.removeConnections()
	}
	if !p.InParent || p.Connections != nil {
		return
	}
	top := p.parent()
	status, err := keyfile.ReadStatus(top.Path)
	if err != nil || !status.Connections || slices.ContainsFunc(status.Keys, func(name string) bool { return !slices.Contains(p.Siblings, name) }) {
		return
	}
	defer top.Unlock()
	if top.Lock(context.Background(), severalKeys) != nil {
		return
	}
	status.Connections = false
	if top.writeStatus(status) == nil {
		top.removeConnections()
	}
}

// hasConnection reports whether the key has a connection, or should: one that this process knows, or a predecessor wrote.
// There is none before the first fetch has said whose the key is.
func (p *Publisher) hasConnection() bool {
	if p.Connections == nil {
		return false
	}
	p.Connections.mu.Lock()
	s, known := p.Connections.known[p.connectionName()]
	p.Connections.mu.Unlock()
	if known {
		return s.Name != ""
	}
	there, err := p.ReadConnections()
	return err == nil && indexOf(connections.Sections(there), p.connectionName()) >= 0
}

// connectionHealth reports why the files are not as a sidecar wrote them, or that they lack the key's connection. Files
// that this user may not read count as there.
func (d Dir) connectionHealth() error {
	at := d.connectionsDir()
	root, err := os.OpenRoot(at.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	var contents [][]byte
	for _, name := range connectionNames {
		content, err := readOurs(root, name)
		if errors.Is(err, fs.ErrPermission) && !owns(root, LockName) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w; %s", filepath.Join(at.Path, name), err, connectionsAdvice(err))
		}
		contents = append(contents, content)
	}
	if name := d.connectionName(); indexOf(connections.Sections(contents[0]), name) < 0 {
		return fmt.Errorf("%w: %s is not in %s; send SIGHUP to the sidecar, which writes the file again", errNoConnection, name, at.ConnectionsPath())
	}
	return nil
}

// owns reports whether the file is this user's.
func owns(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	return err == nil && owner.IsOurs(info)
}

// connectionsAdvice says what to do where one of the files cannot be read.
func connectionsAdvice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("remove it, or chown it to uid %d: the sidecar replaces only files that it can read and has written", os.Getuid())
	case errors.Is(err, fs.ErrNotExist):
		return "send SIGHUP to the sidecar, which writes the file again"
	default:
		return "move it out of the directory, or leave --connections out: the sidecar replaces only files that it has written"
	}
}
