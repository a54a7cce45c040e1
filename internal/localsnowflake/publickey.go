package localsnowflake

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
)

const minimumKeyBits = 2048

// publicKey is a user's public key. It never changes.
type publicKey struct {
	rsa         *rsa.PublicKey
	spki        string // base64, as DESC USER shows it
	fingerprint string
}

func newPublicKey(pub *rsa.PublicKey) *publicKey {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(fmt.Sprintf("localsnowflake: not a public key: %v", err))
	}
	return &publicKey{rsa: pub, spki: base64.StdEncoding.EncodeToString(der), fingerprint: fingerprint(der)}
}

// Fingerprint is what Snowflake calls the public key: SHA256: and the base64 of the hash of its SPKI.
func Fingerprint(pub *rsa.PublicKey) string { return newPublicKey(pub).fingerprint }

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:])
}

// parsePublicKey reads the value of RSA_PUBLIC_KEY and PUBLIC_KEY: the base64 of an SPKI. Line breaks do not
// matter. It is stricter than Snowflake: PEM's BEGIN and END lines, which the documentation says to leave
// out and which some accounts let pass, are refused, and so are EC keys, with which nothing here can verify.
func parsePublicKey(value string) (*publicKey, *failure) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
	if err != nil {
		return nil, rejectedKey("Invalid Public key")
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, rejectedKey("Invalid Public key")
	}
	pub, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, &failure{code: PublicKeyRejected, sqlState: "22023",
			message: "SQL execution error: The provided public key uses an unsupported key algorithm."}
	}
	if bits := pub.N.BitLen(); bits < minimumKeyBits {
		return nil, rejectedKey(fmt.Sprintf("Key length %d is smaller than minimal requirement of %d.", bits, minimumKeyBits))
	}
	return newPublicKey(pub), nil
}

func rejectedKey(reason string) *failure {
	return &failure{code: PublicKeyRejected, sqlState: "22023",
		message: "SQL execution error:\nNew public key rejected by current policy. Reason: '" + reason + "'"}
}
