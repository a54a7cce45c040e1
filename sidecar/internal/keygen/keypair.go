package keygen

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// DefaultBits is Snowflake's minimum, and enough: NIST SP 800-57 has 2048 bits as good until 2030, and
// a longer key makes every login slower.
const DefaultBits = keyfile.MinBits

// iterations of PBKDF2 with HMAC-SHA256: what OWASP's Password Storage Cheat Sheet recommends. They protect a passphrase
// that a person chose; a generated one cannot be guessed anyway. A sidecar pays for them once for each key that it
// fetches, at its start and at a rotation: 0.09 s of one core here, so about 0.4 s on a quarter of a vCPU.
const iterations = 600_000

const saltSize = 16 // bytes, NIST SP 800-132's minimum

// The shortest and longest passphrase, in bytes. openssl reads at most the longest from a file.
const (
	minPassphrase = 8
	maxPassphrase = 1000
)

// Generate makes a key of 2048, 3072 or 4096 bits. 4096 bits can take some seconds.
func Generate(bits int) (*keyfile.Key, error) {
	switch bits {
	case 2048, 3072, 4096:
	default:
		return nil, fmt.Errorf("keygen makes no key of %d bits; give 2048, 3072 or 4096", bits)
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("no new key: %w", err)
	}
	return keyfile.FromRSA(private)
}

// NewPassphrase makes one of 130 random bits, in letters and digits that need no quoting anywhere.
func NewPassphrase() secret.Value { return secret.New([]byte(rand.Text())) }

// CheckPassphrase refuses a passphrase that would not protect a key, or that other programs would read differently. Its
// errors do not repeat it.
func CheckPassphrase(passphrase secret.Value) error {
	text := passphrase.Bytes()
	switch {
	case len(text) < minPassphrase:
		return fmt.Errorf("the passphrase is shorter than %d bytes; take a longer one", minPassphrase)
	case len(text) > maxPassphrase:
		return fmt.Errorf("the passphrase is longer than %d bytes; take a shorter one", maxPassphrase)
	}
	for _, b := range text {
		if b == '\n' || b == '\r' || b == 0 {
			return errors.New("the passphrase has a line break or a zero byte in it, where some programs stop reading; take one without")
		}
	}
	return nil
}

// Encrypt makes PEM of an encrypted PKCS#8 structure: AES-256-CBC, PBKDF2 with HMAC-SHA256. openssl, the sidecar, and
// every Snowflake driver that takes an encrypted key read it.
func Encrypt(key *keyfile.Key, passphrase secret.Value) ([]byte, error) {
	// Without a passphrase youmark/pkcs8 would not encrypt.
	if len(passphrase.Bytes()) == 0 {
		return nil, errors.New("a key cannot be encrypted without a passphrase; give one")
	}
	der, err := pkcs8.MarshalPrivateKey(key.RSA(), passphrase.Bytes(), &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{SaltSize: saltSize, IterationCount: iterations, HMACHash: crypto.SHA256},
	})
	if err != nil {
		return nil, fmt.Errorf("encrypt the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
}

// PublicKey is the public half as ALTER USER takes it: one line of base64, without PEM's BEGIN and END.
func PublicKey(key *keyfile.Key) string { return base64.StdEncoding.EncodeToString(spki(key)) }

// PublicPEM is the public half as a file of its own.
func PublicPEM(key *keyfile.Key) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(key)})
}

func spki(key *keyfile.Key) []byte {
	der, err := x509.MarshalPKIXPublicKey(&key.RSA().PublicKey)
	if err != nil {
		panic(err) // keyfile.FromRSA has done the same for the fingerprint
	}
	return der
}
