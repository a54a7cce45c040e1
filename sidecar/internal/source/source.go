// Package source gets the text of a key and of its passphrase from where they are stored: SSM
// Parameter Store, Secrets Manager through it, or the environment.
//
// It never decrypts a key, never writes to AWS, and makes a call that decrypts a parameter, which
// costs a KMS request, only when a parameter has changed.
package source

import (
	"context"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Material is what a key is made of.
type Material struct {
	Text       secret.Value // PEM or its base64 body, encrypted or not
	Passphrase secret.Value // not set when there is none
	Revision   Revision
	Version    string // of the key's parameter, for people
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

// Environment is a key that was handed over in the environment; nothing is fetched and it never
// changes.
type Environment struct{ Text, Passphrase secret.Value }

// Fetch gives the material the first time, and nil, for unchanged, from then on.
func (e Environment) Fetch(_ context.Context, known Revision) (*Material, error) {
	revision := Revision{key: stamp{version: "environment"}}
	if known == revision {
		return nil, nil
	}
	return &Material{Text: e.Text.Clone(), Passphrase: e.Passphrase.Clone(), Revision: revision}, nil
}
