// Package secret holds a value that must not be printed. Every verb and encoder writes "[redacted]"; only Bytes returns
// the value.
//
// It never copies a value unless [Value.Clone] is called, and never protects a copy that a caller makes of the bytes.
package secret

import (
	"bytes"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// A Value is a secret, or none: the zero Value is not set, and an empty secret is.
//
// The bytes are in a closure, the one kind of value that fmt never prints: it cannot call
// methods on an unexported field of a struct, and prints what pointers there point to when
// the verb does not fit.
type Value struct{ reveal func() []byte }

// New makes a Value that owns b.
func New(b []byte) Value { return Value{func() []byte { return b }} }

// IsSet distinguishes an empty secret from none.
func (v Value) IsSet() bool { return v.reveal != nil }

// Bytes is the secret itself, nil if not set.
func (v Value) Bytes() []byte {
	if v.reveal == nil {
		return nil
	}
	return v.reveal()
}

// Clone is the same secret in memory of its own.
func (v Value) Clone() Value {
	if v.reveal == nil {
		return v
	}
	return New(bytes.Clone(v.reveal()))
}

// Clear overwrites the secret. Copies made of Bytes are the caller's.
func (v Value) Clear() { clear(v.Bytes()) }

// String never shows the secret.
func (v Value) String() string { return redacted }

// Format never shows the secret, with any verb.
func (v Value) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// LogValue never shows the secret.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText never shows the secret.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
