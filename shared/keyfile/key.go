package keyfile

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync"
)

// MinBits is the length of the shortest RSA modulus that Snowflake accepts, in bits.
const MinBits = 2048

// MaxBits is the length of the longest RSA modulus that is read, in bits, as in crypto/tls. A signature, so each login,
// takes 64 times as long as with 2048 bits.
const MaxBits = 8192

// maxDER is the size of the largest DER structure that is parsed, in bytes: what crypto/x509 does to check a key takes
// the longer the larger its numbers are. A key of MaxBits has 4.7 KB.
const maxDER = MaxBits

// A Key is an RSA private key of [MinBits] to [MaxBits], with two primes. It is immutable, and safe for use by several goroutines.
// It prints as its fingerprint with every verb of fmt, in log/slog and in JSON, so that no log line can
// contain it.
//
// The key is kept in a closure, the one kind of value that fmt never prints: in an unexported field of
// another struct fmt cannot call methods, and it prints what a pointer there points to when the verb does
// not fit.
type Key struct {
	fingerprint string
	der         func() []byte          // PKCS#8
	private     func() *rsa.PrivateKey // parsed from der at first use: a process that only publishes the key needs one copy
}

// FromRSA makes a Key from private, which the caller must not change afterwards. Its errors are [ErrTooShort],
// [ErrTooLong], [ErrMultiPrime], [ErrNotPrime] and [ErrNotKey].
func FromRSA(private *rsa.PrivateKey) (*Key, error) {
	switch bits := private.N.BitLen(); {
	case bits < MinBits:
		return nil, fmt.Errorf("%w (it has %d)", ErrTooShort, bits)
	case bits > MaxBits:
		return nil, fmt.Errorf("%w (it has %d)", ErrTooLong, bits)
	case len(private.Primes) > 2:
		return nil, ErrMultiPrime
	}
	if err := private.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	if !signs(private) {
		return nil, ErrNotPrime
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

// signs reports whether a signature by private verifies, which crypto/rsa checks with each that it makes. It does not
// if a prime is not prime: the signature of random bytes is a Fermat test of both primes. crypto/x509 has no such
// check. It takes 1 ms for a key of 2048 bits, a quarter of big.Int.ProbablyPrime, which would also leave the
// primes in a pool of memory.
func signs(private *rsa.PrivateKey) bool {
	digest := make([]byte, sha256.Size)
	_, _ = rand.Read(digest)
	_, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest)
	return err == nil
}

// FromDER makes a Key from an unencrypted PKCS#8 DER structure. Its errors are [ErrNotRSA] and those of [FromRSA].
// [Parse] reads other forms, too.
func FromDER(der []byte) (*Key, error) {
	if len(der) > maxDER {
		return nil, ErrTooLong
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The cause may quote the input, which may be a secret.
		return nil, ErrNotKey
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, ErrNotRSA
	}
	return FromRSA(private)
}

// RSA returns the private key for signing. Do not change it.
func (k *Key) RSA() *rsa.PrivateKey { return k.private() }

// parsed reads the DER that FromRSA made.
func parsed(der []byte) *rsa.PrivateKey {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		panic("keyfile: a key that FromRSA encoded cannot be read") // without the cause, which may quote the key
	}
	return private.(*rsa.PrivateKey)
}

// Fingerprint returns the key's fingerprint as Snowflake's DESC USER shows it in RSA_PUBLIC_KEY_FP: "SHA256:" and
// the standard base64 of the SHA-256 of the public key's DER (SubjectPublicKeyInfo).
func (k *Key) Fingerprint() string { return k.fingerprint }

// Equal reports whether k and other are the same private key. Two nil keys are equal.
func (k *Key) Equal(other *Key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return bytes.Equal(k.der(), other.der())
}

// String returns the fingerprint, "no key" for a nil Key.
func (k *Key) String() string {
	if k == nil {
		return "no key"
	}
	return k.fingerprint
}

// Format prints the fingerprint with every verb and flag of fmt.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.String())) }

// LogValue returns the fingerprint to log/slog.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns the fingerprint to encoding/json and others.
func (k *Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Fingerprint returns the fingerprint of a public key in the form of [Key.Fingerprint].
func Fingerprint(public *rsa.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), nil
}
