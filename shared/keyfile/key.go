package keyfile

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync"
)

// MinBits is the shortest RSA modulus that Snowflake accepts.
const MinBits = 2048

// A Key is an RSA private key that Snowflake can accept. It does not change, and it prints as its
// fingerprint whatever the verb, so that no log line can carry it.
//
// The key itself is in a closure, the one kind of value that fmt never looks into: it cannot call
// methods on an unexported field of somebody's struct, and prints what pointers there point to when
// the verb does not fit.
type Key struct {
	fingerprint string
	der         func() []byte          // PKCS#8
	private     func() *rsa.PrivateKey // made of it when somebody signs: a process that only passes the key on has it once
}

// FromRSA makes a Key of a private key, which the caller must not change afterwards.
func FromRSA(private *rsa.PrivateKey) (*Key, error) {
	if bits := private.N.BitLen(); bits < MinBits {
		return nil, fmt.Errorf("%w (it has %d)", ErrTooShort, bits)
	}
	if err := private.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	fingerprint, err := Fingerprint(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Key{
		fingerprint: fingerprint,
		der:         func() []byte { return der },
		private:     sync.OnceValue(func() *rsa.PrivateKey { return parsed(der) }),
	}, nil
}

// FromDER makes a Key of an unencrypted PKCS#8 DER structure.
func FromDER(der []byte) (*Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The cause may quote what it met, and what it met may be a secret: it stays here.
		return nil, ErrNotKey
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, ErrNotRSA
	}
	return FromRSA(private)
}

// RSA is the private key itself, for signing. Do not change it.
func (k *Key) RSA() *rsa.PrivateKey { return k.private() }

// parsed gives the private key of a structure that was made of one.
func parsed(der []byte) *rsa.PrivateKey {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		panic("keyfile: a key that was valid is not") // the cause may quote it
	}
	return private.(*rsa.PrivateKey)
}

// Fingerprint is the key's fingerprint as Snowflake's DESC USER prints it: "SHA256:" and the
// standard base64 of the SHA-256 of the public key.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Equal reports whether both are the same private key.
func (k *Key) Equal(other *Key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return bytes.Equal(k.der(), other.der())
}

// String is the fingerprint.
func (k *Key) String() string {
	if k == nil {
		return "no key"
	}
	return k.fingerprint
}

// Format prints the fingerprint for every verb and flag.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.String())) }

// LogValue is the fingerprint.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText is the fingerprint.
func (k *Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Fingerprint is the fingerprint of a public key as Snowflake's DESC USER prints it.
func Fingerprint(public *rsa.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), nil
}
