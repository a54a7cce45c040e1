// Package ssm reads keys and passphrases from SSM Parameter Store, and from Secrets Manager through it, and writes
// parameters for `keygen` and `rotate`.
//
// It never decrypts a key. It decrypts a parameter, which costs a KMS request, only after a change. One key's error
// never becomes another's. It never writes to another account or Region than the name says, nor stores a value
// unencrypted unless its caller says so. It never reads more of an answer than the request allows, and never follows a
// redirect. Its errors never repeat a setting or a secret.
package ssm

import (
	"context"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// A Wanted is a key to fetch, and the revision that its caller has.
type Wanted struct {
	Key   *Key
	Known Revision
}

// A Fetched is the result for one Wanted. Without an error and without Material the key is unchanged.
type Fetched struct {
	Key      *Key
	Material *Material
	Err      error // a *failure.Error
	Changed  bool  // with Err: there is newer material, which was not fetched
}

// Material is the stored text of a key, with all that is needed to read it.
type Material struct {
	Text       secret.Value // PEM or its base64 body, encrypted or not, or a managed secret
	Passphrase secret.Value // not set when there is none
	Revision   Revision
	Version    string    // of the key's parameter, for people
	Stored     time.Time // when that version was stored; zero if that is not known
}

// Clear overwrites the secrets that were fetched.
func (m *Material) Clear() {
	m.Text.Clear()
	m.Passphrase.Clear()
}

// A Revision says which stored values a Material was made of. Two are equal when nothing changed in
// between; the zero Revision equals none.
type Revision struct{ key, passphrase stamp }

type stamp struct {
	version  string
	modified time.Time // always UTC, so that == compares instants
}

// Environment is the one key of the environment. It never changes, and no call is made for it. Its Material is the only
// copy.
type Environment struct{ Text, Passphrase secret.Value }

// Fetch gives the material the first time, and unchanged from then on.
func (e Environment) Fetch(_ context.Context, wanted []Wanted) []Fetched {
	fetched := make([]Fetched, len(wanted))
	revision := Revision{key: stamp{version: "environment"}}
	for i, w := range wanted {
		fetched[i].Key = w.Key
		if w.Known != revision {
			fetched[i].Material = &Material{Text: e.Text, Passphrase: e.Passphrase, Revision: revision}
		}
	}
	return fetched
}
