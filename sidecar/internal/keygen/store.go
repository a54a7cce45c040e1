package keygen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A store is the two parameters of --put.
//
// They cannot be changed at the same moment, and a task that starts between the two changes would read a passphrase that
// does not fit. So a stored passphrase is never replaced: a key that replaces another is encrypted with the passphrase
// that is there, which is one change. A new passphrase is stored before its key: nothing reads it until the key is there.
type store struct {
	*ssm.Store
	c          *config.KeygenConfig
	previous   *ssm.Version // of the key's parameter; nil if it does not exist
	passphrase secret.Value // the stored one; not set if there is none
}

// openStore reads what is stored, and fails if only --overwrite may replace it.
func openStore(ctx context.Context, c *config.KeygenConfig, calls ssm.Options) (*store, error) {
	opened, err := ssm.OpenStore(ctx, calls, c.KeyParameter, c.PassphraseParameter)
	if err != nil {
		return nil, config.UsageError{Err: err}
	}
	s := &store{Store: opened, c: c}
	if s.previous, err = s.latest(ctx, c.KeyParameter); err != nil {
		return nil, err
	}
	passphrase, err := s.latest(ctx, c.PassphraseParameter)
	if err != nil {
		return nil, err
	}
	if !c.Overwrite {
		return s, refuseToOverwrite(c, s.previous, passphrase)
	}
	if passphrase == nil {
		return s, nil
	}
	stored, err := s.Get(ctx, c.PassphraseParameter)
	if err != nil {
		return nil, err
	}
	s.passphrase = secret.New(withoutLineBreak(stored.Value.Bytes()))
	return s, nil
}

// latest is nil for a parameter that does not exist.
func (s *store) latest(ctx context.Context, name string) (*ssm.Version, error) {
	v, err := s.Latest(ctx, name)
	if errors.Is(err, ssm.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nothing was made: %w", err)
	}
	if !v.Secret() {
		return nil, fmt.Errorf("%s is of type %s, whose values are not encrypted; name another parameter, or delete it first", name, v.Type)
	}
	return &v, nil
}

func refuseToOverwrite(c *config.KeygenConfig, key, passphrase *ssm.Version) error {
	switch {
	case key != nil:
		return fmt.Errorf("%s exists already (version %d), and nothing was made; sidecar rotate replaces a key that is in use, "+
			"--overwrite one that is not, or name another parameter", c.KeyParameter, key.Number)
	case passphrase != nil:
		return fmt.Errorf("%s exists already (version %d), and nothing was made; --overwrite makes a key for the passphrase "+
			"that it holds, or name another parameter", c.PassphraseParameter, passphrase.Number)
	}
	return nil
}

// storedPassphrase is the stored one. It fails if the user gave another one.
func (s *store) storedPassphrase(given secret.Value) (secret.Value, error) {
	if given.IsSet() && !bytes.Equal(given.Bytes(), s.passphrase.Bytes()) {
		return secret.Value{}, fmt.Errorf("%s holds another passphrase than the one given, and the two parameters cannot be changed "+
			"at the same moment; give none to keep it, or store key and passphrase under new names and have the task read those",
			s.c.PassphraseParameter)
	}
	return s.passphrase, nil
}

// put stores both. maybeStored says that the key is stored, or may be: then its public half is needed.
func (s *store) put(ctx context.Context, key, passphrase secret.Value, progress io.Writer) (maybeStored bool, err error) {
	kept := s.passphrase.IsSet()
	if !kept {
		version, err := s.Put(ctx, s.first(s.c.PassphraseParameter, passphrase))
		if err != nil {
			return false, s.passphraseFailed(err)
		}
		fmt.Fprintf(progress, "%s: passphrase, version %d\n", s.ARN(ctx, s.c.PassphraseParameter), version)
	}
	if kept && s.c.GeneratePassphrase {
		fmt.Fprintf(progress, "%s: the stored passphrase was kept, and none was made\n", s.ARN(ctx, s.c.PassphraseParameter))
	}
	write := s.first(s.c.KeyParameter, key)
	if s.previous != nil {
		write = s.previous.Next(key)
		if s.c.KMSKey != "" {
			write.KMSKey = s.c.KMSKey
		}
	}
	version, err := s.Put(ctx, write)
	if err != nil {
		return outcomeUnknown(err), s.keyFailed(err, kept)
	}
	fmt.Fprintf(progress, "%s: private key, version %d\n", s.ARN(ctx, s.c.KeyParameter), version)
	if s.previous == nil {
		return true, nil
	}
	fmt.Fprintln(progress, "Tasks that read it take it at their next refresh: assign it to the user now.")
	if err := s.Tag(ctx, s.c.KeyParameter, s.c.Tags); err != nil {
		return true, fmt.Errorf("the key is stored, its tags are not: %w", err)
	}
	return true, nil
}

// first is the write of a parameter that does not exist.
func (s *store) first(name string, value secret.Value) ssm.Write {
	return ssm.Write{Name: name, Value: value, KMSKey: s.c.KMSKey, Tags: s.c.Tags}
}

// outcomeUnknown reports whether AWS may have stored a value although the call failed.
func outcomeUnknown(err error) bool {
	return failure.Class(err) == keyfile.ClassNetwork || errors.Is(err, context.Canceled)
}

const again = "then run the same with --overwrite, which keeps the passphrase that is stored"

func (s *store) passphraseFailed(err error) error {
	name := s.c.PassphraseParameter
	switch {
	case errors.Is(err, ssm.ErrExists):
		return fmt.Errorf("%s was not there a moment ago: another user stored a passphrase, or AWS stored this one and its answer was lost; "+
			"the key was not stored; find out which, %s: %w", name, again, err)
	case outcomeUnknown(err):
		return fmt.Errorf("whether the passphrase is in %s is not known, the key was not stored, and nothing that runs is affected: %w; %s", name, err, again)
	}
	return fmt.Errorf("nothing was stored: %w", err)
}

func (s *store) keyFailed(err error, kept bool) error {
	name := s.c.KeyParameter
	state := "nothing was stored"
	if !kept {
		state = fmt.Sprintf("the passphrase is in %s, the key is not stored, and nothing that runs is affected", s.c.PassphraseParameter)
	}
	switch {
	case outcomeUnknown(err) && s.previous != nil:
		state = fmt.Sprintf("whether the key is in %s is not known: if its latest version is %d it is not", name, s.previous.Number)
	case outcomeUnknown(err), errors.Is(err, ssm.ErrExists):
		state = fmt.Sprintf("the passphrase is in %s; whether this key is in %s is not known", s.c.PassphraseParameter, name)
	}
	do := again
	if outcomeUnknown(err) && s.c.Out != "" {
		do = "move " + s.c.Out + " and what is beside it away, " + again
	}
	return fmt.Errorf("%s: %w; %s", state, err, do)
}
