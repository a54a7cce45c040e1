package keygen

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The modes of the files. Even an encrypted key is not for other users.
const (
	secretMode fs.FileMode = 0o600
	publicMode fs.FileMode = 0o644
)

// files are the paths of the files to write, "" for none.
type files struct{ key, public, passphrase string }

// defaultKeyFile is the key's file if the settings name neither a file nor --put.
const defaultKeyFile = "rsa_key.p8"

// newFiles are the files that the settings name.
func newFiles(c *config.KeygenConfig) files {
	f := files{key: c.Out, public: c.PublicOut}
	if f.key == "" && !c.Put {
		f.key = defaultKeyFile
	}
	stem := strings.TrimSuffix(f.key, filepath.Ext(f.key))
	if f.public == "" && f.key != "" {
		f.public = stem + ".pub"
	}
	if c.GeneratePassphrase {
		f.passphrase = c.PassphraseFile
		if f.passphrase == "" && !c.Put {
			f.passphrase = stem + ".passphrase"
		}
	}
	return f
}

// paths of all files, the passphrase first: a key without it is of no use.
func (f files) paths() []string {
	return slices.DeleteFunc([]string{f.passphrase, f.key, f.public}, func(path string) bool { return path == "" })
}

// checkAbsent fails early if any of the files exists, or has no directory. write would fail as well, at the first file,
// which may be one that nobody named.
func (f files) checkAbsent() error {
	paths := f.paths()
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return config.UsageError{Err: fmt.Errorf("%s is the name of two files: name another", path)}
		}
		if _, err := os.Lstat(path); err == nil {
			return existsError(path)
		}
		if dir := filepath.Dir(path); isMissing(dir) {
			return fmt.Errorf("there is no directory %s: create it, or name a file elsewhere", dir)
		}
	}
	return nil
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func existsError(path string) error {
	return fmt.Errorf("%s exists, and keygen overwrites no file: move it away, or name another file", path)
}

// write creates every file or, when one fails, none.
func (f files) write(key, public []byte, passphrase secret.Value) error {
	var written []string
	for _, file := range []struct {
		path    string
		content []byte
		mode    fs.FileMode
	}{
		{f.passphrase, passphrase.Bytes(), secretMode}, // no line break: some programs keep it
		{f.key, key, secretMode},
		{f.public, public, publicMode},
	} {
		if file.path == "" {
			continue
		}
		if err := create(file.path, file.content, file.mode); err != nil {
			return errors.Join(err, remove(written))
		}
		written = append(written, file.path)
	}
	return nil
}

func remove(paths []string) error {
	var all []error
	for _, path := range paths {
		all = append(all, os.Remove(path))
	}
	return errors.Join(all...)
}

// create makes a new file, complete and on disk, or none.
func create(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return existsError(path)
	}
	if err != nil {
		return fmt.Errorf("%w; name a file in a directory that exists and can be written", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("%w; make room, or name a file elsewhere", err), os.Remove(path))
	}
	return nil
}

// describe says which file is what.
func (f files) describe(w io.Writer, bits int) {
	for _, file := range []struct{ path, what string }{
		{f.key, fmt.Sprintf("private key, %d bits, encrypted", bits)},
		{f.passphrase, "its passphrase: keep the two apart"},
		{f.public, "public key"},
	} {
		if file.path != "" {
			fmt.Fprintf(w, "%s: %s\n", file.path, file.what)
		}
	}
}
