package keygen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// choosePassphrase takes the passphrase from where the settings say. A stored one is kept.
func choosePassphrase(ctx context.Context, c *config.KeygenConfig, store *store) (secret.Value, error) {
	given, err := givenPassphrase(ctx, c)
	if err != nil {
		return secret.Value{}, err
	}
	if given.IsSet() {
		if err := CheckPassphrase(given); err != nil {
			return secret.Value{}, config.UsageError{Err: err}
		}
	}
	switch {
	case store != nil && store.passphrase.IsSet():
		return store.storedPassphrase(given)
	case given.IsSet():
		return given, nil
	case c.GeneratePassphrase:
		return NewPassphrase(), nil
	default:
		return askPassphrase(ctx)
	}
}

// givenPassphrase is the one in the environment or a file. It is not set if there is none.
func givenPassphrase(ctx context.Context, c *config.KeygenConfig) (secret.Value, error) {
	if c.Passphrase.IsSet() || c.PassphraseFile == "" || c.GeneratePassphrase {
		return c.Passphrase, nil
	}
	return readPassphrase(ctx, c.PassphraseFile)
}

// maxPassphraseFile is longer than any passphrase. It bounds how much of a wrong file is read.
const maxPassphraseFile = 64 << 10

// readPassphrase reads a file like openssl's -passin file:, without the line break at its end, and without what Windows
// editors add: a byte order mark, or UTF-16. To open a pipe without a writer blocks: ctx ends the wait, and the process
// then ends with the goroutine.
func readPassphrase(ctx context.Context, path string) (secret.Value, error) {
	var text []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, err = readStart(path, maxPassphraseFile)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return secret.Value{}, errors.New("stopped at the passphrase's file; nothing was made: run it again")
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("%w; name a file that has the passphrase", err)
	}
	defer clear(text)
	return secret.New(withoutLineBreak(keytext.DecodeText(text))), nil
}

func readStart(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
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
