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

// MinBits is the length in bits of the shortest RSA modulus that Snowflake accepts.
const MinBits = 2048

// MaxBits is the length in bits of the longest RSA modulus that is read, as in crypto/tls. The signature of each login takes
// 64 times as long as with 2048 bits.
const MaxBits = 8192

// maxDER is the size in bytes of the largest DER structure that is parsed: the larger the numbers in it, the longer
// crypto/x509 takes to check them. A key of MaxBits has 4.7 KB.
const maxDER = MaxBits

// A Key is an RSA private key of [MinBits] to [MaxBits] with two primes. It is immutable, and may be used by several
// goroutines. It prints as its fingerprint with every verb of fmt, in log/slog and in JSON, so that no log line contains it.
//
// [Read], [Parse], [FromDER] and [FromRSA] make keys. A nil Key can be printed and compared; the zero Key is not usable.
type Key struct {
	// The key is in closures, the only kind of value that fmt never prints. In an unexported field of another struct fmt
	// cannot call methods, and prints what a pointer points to if the verb does not fit.

	fingerprint string
	der         func() []byte          // PKCS#8
	private     func() *rsa.PrivateKey // parsed from der at first use: a process that only publishes the key needs one copy
}

// FromRSA makes a Key from private. Its errors are [ErrTooShort], [ErrTooLong], [ErrMultiPrime], [ErrNotPrime], and
// [ErrNotKey] if the numbers of private do not belong together.
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

// signs reports whether a signature by private verifies. crypto/rsa checks that for each signature that it makes. The
// signature of random bytes is a Fermat test of both primes: it fails if one is not prime. crypto/x509 has no such check.
// It takes 1 ms for a key of 2048 bits, a quarter of big.Int.ProbablyPrime, which would also leave the primes in a pool of
// memory.
func signs(private *rsa.PrivateKey) bool {
	digest := make([]byte, sha256.Size)
	_, _ = rand.Read(digest)
	_, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest)
	return err == nil
}

// FromDER makes a Key from an unencrypted PKCS#8 DER structure, and from nothing else: [Parse] reads other forms, too. Its
// errors are [ErrNotKey], [ErrNotRSA] and those of [FromRSA].
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

// RSA returns the private key, for signing. It is shared by all callers: do not change it.
func (k *Key) RSA() *rsa.PrivateKey { return k.private() }

// parsed reads the DER that FromRSA made.
func parsed(der []byte) *rsa.PrivateKey {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		panic("keyfile: a key that FromRSA encoded cannot be read") // without the cause, which may quote the key
	}
	return private.(*rsa.PrivateKey)
}

// Fingerprint returns the fingerprint of the public key, as Snowflake's DESC USER shows it in RSA_PUBLIC_KEY_FP: "SHA256:"
// and the standard base64 of the SHA-256 of its DER (SubjectPublicKeyInfo). It is no secret.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Equal reports whether k and other are the same private key. Two nil keys are equal.
func (k *Key) Equal(other *Key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return bytes.Equal(k.der(), other.der())
}

// String returns the fingerprint, or "no key" for a nil Key.
func (k *Key) String() string {
	if k == nil {
		return "no key"
	}
	return k.fingerprint
}

// Format implements [fmt.Formatter]: it prints the fingerprint with every verb and flag.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.String())) }

// LogValue implements [slog.LogValuer] with the fingerprint.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements [encoding.TextMarshaler] with the fingerprint.
func (k *Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Fingerprint returns the fingerprint of a public key, in the form of [Key.Fingerprint]. It fails only for a public key
// without a modulus.
func Fingerprint(public *rsa.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), nil
}
