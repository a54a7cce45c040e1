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
	text        string // as it was written, and as DESC USER shows it
	fingerprint string
}

func newPublicKey(pub *rsa.PublicKey) *publicKey {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(fmt.Sprintf("localsnowflake: not a public key: %v", err))
	}
	return &publicKey{rsa: pub, text: base64.StdEncoding.EncodeToString(der), fingerprint: fingerprint(der)}
}

// mustBeLongEnough panics where a statement would fail.
func mustBeLongEnough(pub *rsa.PublicKey) *publicKey {
	if failure := refusedLength(pub); failure != nil {
		panic("localsnowflake: " + failure.message)
	}
	return newPublicKey(pub)
}

func refusedLength(pub *rsa.PublicKey) *failure {
	if bits := pub.N.BitLen(); bits < minimumKeyBits {
		return rejectedKey(fmt.Sprintf("Key length %d is smaller than minimal requirement of %d.", bits, minimumKeyBits))
	}
	return nil
}

// Fingerprint is what Snowflake calls the public key: SHA256: and the base64 of the hash of its SPKI.
func Fingerprint(pub *rsa.PublicKey) string { return newPublicKey(pub).fingerprint }

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:])
}

// parsePublicKey reads the value of RSA_PUBLIC_KEY and PUBLIC_KEY: the base64 of an SPKI. Line breaks do not
// matter, and neither do PEM's BEGIN and END lines: the documentation says to leave them out, but Snowflake's
// own CLI does not. EC keys are refused, unlike at Snowflake: nothing here can verify with them.
func parsePublicKey(value string) (*publicKey, *failure) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(withoutArmour(value)), ""))
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
	if failure := refusedLength(pub); failure != nil {
		return nil, failure
	}
	key := newPublicKey(pub)
	key.text = value
	return key, nil
}

// withoutArmour drops the lines around a public key in PEM, if both are there.
func withoutArmour(value string) string {
	inner, begins := strings.CutPrefix(strings.TrimSpace(value), "-----BEGIN PUBLIC KEY-----")
	inner, ends := strings.CutSuffix(inner, "-----END PUBLIC KEY-----")
	if begins && ends {
		return inner
	}
	return value
}

func rejectedKey(reason string) *failure {
	return &failure{code: PublicKeyRejected, sqlState: "22023",
		message: "SQL execution error:\nNew public key rejected by current policy. Reason: '" + reason + "'"}
}
