package decrypt

import (
	"encoding/asn1"
	"fmt"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Encryption says in openssl's words how a stored key is encrypted: "aes-256-cbc, PBKDF2 with hmacWithSHA256,
// 600000 iterations". It is "" for a key that is not encrypted, and for what Key refuses without looking at
// the passphrase.
func Encryption(text secret.Value) string {
	if IsManagedSecret(text) {
		stored, err := parseManagedSecret(text.Bytes())
		if err != nil {
			return ""
		}
		text, _ = stored.parts(secret.Value{})
	}
	found := keyfile.Inspect(text.Bytes())
	defer found.Clear()
	der := found.DER()
	if found.Form != keyfile.FormEncrypted || examine(der) != nil {
		return ""
	}
	var key encryptedKey
	var scheme pbes2
	// Whatever examine has let through parses.
	_, _ = asn1.Unmarshal(der, &key)
	_ = unmarshal(key.Algorithm, &scheme)
	return ciphers[scheme.Cipher.OID.String()].name + ", " + scheme.KDF.describe()
}

func (kdf algorithm) describe() string {
	if kdf.OID.String() == oidScrypt {
		var p scryptParams
		_ = unmarshal(kdf, &p)
		return fmt.Sprintf("scrypt with N=%d, r=%d, p=%d", p.N, p.R, p.P)
	}
	var p pbkdf2Params
	_ = unmarshal(kdf, &p)
	return fmt.Sprintf("PBKDF2 with %s, %d iterations", prfs[p.PRF.OID.String()].name, p.Iterations)
}
