package publish

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
)

const (
	// moment is how long files may disagree: a publish replaces one after the other.
	moment = 2 * time.Second
	// lasting is from when on a refused lock makes a container unhealthy: on one host a task may wait for another to end.
	lasting = time.Minute
)

// Health reports whether the directory has what its sidecar says in status.json that it publishes: a valid key in every
// format, the same in all of them, and its connection in connections.toml. It needs neither the sidecar's settings nor a network. A refresh that failed is no reason: the published key is still
// the last valid one. A lock that is refused for long is, since then this sidecar does not publish at all.
func Health(path string) error {
	status, err := keyfile.ReadStatus(path)
	if err != nil {
		return fmt.Errorf("no sidecar has published here: %w", err)
	}
	if len(status.Keys) == 0 {
		err := healthOf(path)
		if err == nil && status.Connections {
			err = connectionsHealth(path, connections.Default)
		}
		return err
	}
	var problems []error
	for _, name := range status.Keys {
		if !isKeyName(name) {
			return fmt.Errorf("%s names a key %q, which is no directory's name", filepath.Join(path, keyfile.StatusName), name)
		}
		if err := healthOf(filepath.Join(path, name)); err != nil {
			problems = append(problems, fmt.Errorf("key %s: %w", name, err))
		}
	}
	if status.Connections && len(problems) == 0 {
		return connectionsHealth(path, connected(path, status.Keys)...)
	}
	return errors.Join(problems...)
}

// connected are the keys that have a connection. Those of a sidecar without --connections have none.
func connected(path string, keys []string) (names []string) {
	for _, name := range keys {
		if s, err := keyfile.ReadStatus(filepath.Join(path, name)); err == nil && s.Connections {
			names = append(names, name)
		}
	}
	return names
}

// errDisagree is for files that may agree in a moment.
var errDisagree = errors.New("the key files do not agree")

func healthOf(path string) error {
	for deadline := time.Now().Add(moment); ; time.Sleep(20 * time.Millisecond) {
		err := filesOf(path)
		if !errors.Is(err, errDisagree) || time.Now().After(deadline) {
			return errors.Join(err, refusalOf(path))
		}
	}
}

func filesOf(path string) error {
	status, err := keyfile.ReadStatus(path)
	switch {
	case err != nil:
		return err
	case status.Fingerprint == "":
		return fmt.Errorf("no key from %s is in %s yet", orUnknown(status.Source), path)
	}
	for _, f := range keyfile.Formats {
		key, err := read(filepath.Join(path, f.FileName()))
		switch published := slices.Contains(status.Formats, f); {
		case err != nil && published:
			return err
		case err == nil && key.Fingerprint() != status.Fingerprint:
			return fmt.Errorf("%w: %s has %s, and %s says %s", errDisagree, filepath.Join(path, f.FileName()), key.Fingerprint(), keyfile.StatusName, status.Fingerprint)
		}
	}
	return nil
}

func orUnknown(source string) string {
	if source == "" {
		return "the sidecar's source"
	}
	return source
}

// refusalOf is why the sidecar of this container may not publish here.
func refusalOf(path string) error {
	for _, r := range readRefusals(path) {
		if time.Since(r.Since) > lasting {
			return fmt.Errorf("the sidecar of %s is refused since %s: another one publishes in %s", orUnknown(r.Source), r.Since.Format(time.RFC3339), path)
		}
	}
	status, err := keyfile.ReadStatus(path)
	if err == nil && status.LastError != nil && status.LastError.Class == keyfile.ClassLocked && time.Since(status.LastError.Since) > lasting {
		return fmt.Errorf("another program has locked %s since %s", path, status.LastError.Since.Format(time.RFC3339))
	}
	return nil
}

// Health is that of this key's directory alone, and of the connections.
func (d Dir) Health() error {
	err := healthOf(d.Path)
	if err == nil && d.Connections != nil {
		err = connectionsHealth(d.connectionsDir().Path, d.connectionName())
	}
	return err
}
