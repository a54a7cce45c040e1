package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const (
	// moment is how long files may disagree: a publish replaces one after the other.
	moment = 2 * time.Second
	// lasting is how long a lock may be refused before the container is unhealthy: on one host a task may wait for
	// another to end.
	lasting = time.Minute
)

// Health reports whether the directory holds what its status.json says: a valid key in every format, the same in all of
// them, and its connection in connections.toml. It needs neither the sidecar's settings nor a network.
//
// A refresh that failed does not make it unhealthy: the published key is still the last valid one. A lock that is
// refused for long does, since then this sidecar does not publish at all.
func Health(path string) error {
	status, err := keyfile.ReadStatus(path)
	if errors.Is(err, keyfile.ErrUnknownSchema) {
		return fmt.Errorf("a sidecar of another version has published in %s: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("no sidecar has published here: %w", err)
	}
	if len(status.Keys) == 0 {
		return healthOf(Dir{Path: path})
	}
	var problems []error
	for _, name := range status.Keys {
		if !isKeyName(name) {
			return fmt.Errorf("%s names a key %q, which is no directory's name", filepath.Join(path, keyfile.StatusName), name)
		}
		if err := healthOf(Dir{Path: filepath.Join(path, name), InParent: true}); err != nil {
			problems = append(problems, fmt.Errorf("key %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// Errors that may be gone in a moment.
var (
	errDisagree     = errors.New("the key files do not agree")
	errNoConnection = errors.New("no such connection")
)

func healthOf(d Dir) error {
	for deadline := time.Now().Add(moment); ; time.Sleep(20 * time.Millisecond) {
		err := filesOf(d)
		passes := errors.Is(err, errDisagree) || errors.Is(err, errNoConnection)
		if !passes || time.Now().After(deadline) {
			return errors.Join(err, refusalOf(d.Path))
		}
	}
}

// filesOf reports what is wrong with the files of one key, and with its connection if the status says that there is one.
func filesOf(d Dir) error {
	path := d.Path
	status, err := keyfile.ReadStatus(path)
	switch {
	case err != nil:
		return err
	case status.Fingerprint == "":
		return fmt.Errorf("no key from %s is in %s yet", orUnknown(status.Source), path)
	}
	var known *keyfile.Key
	for _, e := range entriesOf(status) {
		key, err := e.read(path, known)
		switch {
		case errors.Is(err, keyfile.ErrSocketClosed): // a sidecar is there, and has too many readers: no reason to end the task
		case err != nil && e.published:
			return err
		case err == nil && key.Fingerprint() != status.Fingerprint:
			return fmt.Errorf("%w: %s has %s, and %s says %s", errDisagree, filepath.Join(path, e.name), key.Fingerprint(), keyfile.StatusName, status.Fingerprint)
		case err == nil:
			known = key
		}
	}
	if status.Connections {
		return d.connectionHealth()
	}
	return nil
}

// An entry is a file or a socket to check.
type entry struct {
	name      string
	format    keyfile.Format
	published bool // the status says that it is there
}

// read is the entry's key. The known key, nil without one, is that of another entry: what holds the same is not parsed and
// checked once more, which would be a third of a health check.
func (e entry) read(dir string, known *keyfile.Key) (key *keyfile.Key, err error) {
	path := filepath.Join(dir, e.name)
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	secret.Do(func() {
		var data []byte
		data, err = keyfile.ReadBytes(ctx, path)
		defer clear(data)
		switch {
		case err != nil:
		case known != nil && e.holds(data, known):
			key = known
		default:
			if key, err = keyfile.Parse(data); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
	})
	return key, err
}

func (e entry) holds(data []byte, key *keyfile.Key) bool {
	encoded := e.format.Encode(key)
	defer clear(encoded)
	return bytes.Equal(data, encoded)
}

// entriesOf are the files and sockets that a status names, and files that it does not name: those still have readers.
// If only sockets are published, such a file is another sidecar's, which writes its own status.
func entriesOf(status keyfile.Status) (all []entry) {
	onlySockets := len(status.Formats) == 0 && len(status.Serve) > 0
	for _, f := range keyfile.Formats {
		if published := slices.Contains(status.Formats, f); published || !onlySockets {
			all = append(all, entry{f.FileName(), f, published})
		}
		if slices.Contains(status.Serve, f) {
			all = append(all, entry{f.SocketName(), f, true})
		}
	}
	return all
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

// Health is the health of this key's directory alone, and of the connections.
func (d Dir) Health() error { return healthOf(d) }
