package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The modes of what keygen writes: the key is encrypted, and still nobody else's.
const (
	secretMode fs.FileMode = 0o600
	publicMode fs.FileMode = 0o644
)

// outputs are the files that keygen writes. Where a path is "" nothing is.
type outputs struct{ key, public, passphrase string }

// paths of all files, the passphrase first: a key without it is of no use.
func (o outputs) paths() []string {
	return slices.DeleteFunc([]string{o.passphrase, o.key, o.public}, func(path string) bool { return path == "" })
}

// free fails if any of the files exists, before anything is made. write would notice, too, but late.
func (o outputs) free() error {
	paths := o.paths()
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return usageError{fmt.Errorf("%s is to be two files: name another", path)}
		}
		if _, err := os.Lstat(path); err == nil {
			return exists(path)
		}
	}
	return nil
}

func exists(path string) error {
	return fmt.Errorf("%s exists, and is not overwritten: move it away, or name another file", path)
}

// write creates every file or, when one fails, none.
func (o outputs) write(key, public []byte, passphrase secret.Value) error {
	var written []string
	for _, f := range []struct {
		path    string
		content []byte
		mode    fs.FileMode
	}{
		{o.passphrase, passphrase.Bytes(), secretMode}, // no line break: not everybody drops it
		{o.key, key, secretMode},
		{o.public, public, publicMode},
	} {
		if f.path == "" {
			continue
		}
		if err := create(f.path, f.content, f.mode); err != nil {
			return errors.Join(err, remove(written))
		}
		written = append(written, f.path)
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

// create makes a file that was not there, complete and on disk, or none.
func create(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return exists(path)
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

// describe says what is where.
func (o outputs) describe(w io.Writer, bits int) {
	for _, f := range []struct{ path, what string }{
		{o.key, fmt.Sprintf("private key, %d bits, encrypted", bits)},
		{o.passphrase, "its passphrase: keep the two apart"},
		{o.public, "public key"},
	} {
		if f.path != "" {
			fmt.Fprintf(w, "%s: %s\n", f.path, f.what)
		}
	}
}

// maxPassphraseFile is more than any passphrase; it keeps a wrong file from being read to its end.
const maxPassphraseFile = 64 << 10

// readPassphrase reads a file as openssl's -passin file: does, without the line break at its end. It may be a
// pipe that nobody writes into, for which ctx ends the wait.
func readPassphrase(ctx context.Context, path string) (secret.Value, error) {
	var text []byte
	var err error
	var reading sync.WaitGroup
	reading.Go(func() { text, err = readStart(path, maxPassphraseFile) })
	if !waitUntil(ctx, &reading) {
		return secret.Value{}, errors.New("stopped at the passphrase's file; nothing was made")
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("%w; name a file that has the passphrase", err)
	}
	return secret.New(withoutLineBreak(text)), nil
}

func readStart(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// withoutLineBreak drops the one at the end: a passphrase stored from a file has one.
func withoutLineBreak(text []byte) []byte {
	end := len(text)
	if end > 0 && text[end-1] == '\n' {
		end--
		if end > 0 && text[end-1] == '\r' {
			end--
		}
	}
	return text[:end]
}
