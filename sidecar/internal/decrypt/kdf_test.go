package decrypt

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func pbkdf2Of(t *testing.T, iterations int, prf string) algorithm {
	t.Helper()
	return algorithmOf(t, oidPBKDF2, struct {
		Salt       []byte
		Iterations int
		PRF        struct{ OID asn1.ObjectIdentifier }
	}{[]byte("salt"), iterations, struct{ OID asn1.ObjectIdentifier }{objectIDOf(t, prf)}})
}

func scryptOf(t *testing.T, salt, n, r, p int) algorithm {
	t.Helper()
	return algorithmOf(t, oidScrypt, struct {
		Salt    []byte
		N, R, P int
	}{bytes.Repeat([]byte("s"), salt), n, r, p})
}

const (
	hmacSHA1   = "1.2.840.113549.2.7"
	hmacSHA256 = "1.2.840.113549.2.9"
	hmacSHA512 = "1.2.840.113549.2.11"
)

// Each of these would take from several seconds to hours, on a fast machine.
func TestParse_RefusesCostlyKeyDerivation(t *testing.T) {
	for name, tc := range map[string]struct {
		kdf  algorithm
		want string
	}{
		"2^31 iterations":            {pbkdf2Of(t, 1<<31-1, hmacSHA256), "PBKDF2 with hmacWithSHA256, 2147483647 iterations"},
		"no iterations":              {pbkdf2Of(t, 0, hmacSHA256), "0 iterations"},
		"negative iterations":        {pbkdf2Of(t, -1, hmacSHA256), "-1 iterations"},
		"scrypt of 16 GiB":           {scryptOf(t, 16, 1<<24, 8, 1), "scrypt with N=16777216"},
		"scrypt of many p":           {scryptOf(t, 16, 1<<14, 8, 1<<20), "scrypt with N="},
		"scrypt that wraps N*r":      {scryptOf(t, 16, 1<<30, 1<<30, 1<<30), "scrypt with N="},
		"scrypt of no r":             {scryptOf(t, 16, 1<<14, 0, 1), "scrypt parameters are damaged"},
		"scrypt of negative p":       {scryptOf(t, 16, 1<<14, 8, -1), "scrypt parameters are damaged"},
		"scrypt that wraps p*r to 0": {scryptOf(t, 16, 2, 1<<31-1, 1<<31-1), "scrypt with N="},
		"scrypt that wraps N*r*p":    {scryptOf(t, 16, 1<<20, 1<<22, 1<<22), "scrypt with N="},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			stored, err := Parse(secret.New(withKDF(t, tc.kdf)), secret.New([]byte(passphrase+"\n")))
			if err == nil || !strings.Contains(err.Error(), tc.want) || failure.Class(err) != keyfile.ClassUnreadableKey {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if stored.Encryption != "" {
				t.Errorf("encryption %q, which is refused", stored.Encryption)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v to refuse", took)
			}
		})
	}
}

// What other programs use as they come, and OWASP's figures. The passphrase is wrong, and tried twice.
func TestParse_TakesUsualKeyDerivation(t *testing.T) {
	for name, kdf := range map[string]algorithm{
		"openssl":                scryptOf(t, 16, 1<<14, 8, 1),
		"openssl's largest":      scryptOf(t, 16, 1<<14, 15, 1),
		"BoringSSL's largest":    scryptOf(t, 16, 1<<16, 8, 1),
		"OWASP, PBKDF2, SHA-1":   pbkdf2Of(t, 1_300_000, hmacSHA1),
		"OWASP, PBKDF2, SHA-256": pbkdf2Of(t, 600_000, hmacSHA256),
		"OWASP, PBKDF2, SHA-512": pbkdf2Of(t, 210_000, hmacSHA512),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse(secret.New(withKDF(t, kdf)), secret.New([]byte("wrong\r\n")))
			if failure.Class(err) != keyfile.ClassPassphrase {
				t.Errorf("error %v", err)
			}
			took := time.Since(start)
			t.Log(took.Round(time.Millisecond))
			if took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func objectIDOf(t testing.TB, dotted string) asn1.ObjectIdentifier {
	t.Helper()
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		number, err := strconv.Atoi(arc)
		if err != nil {
			t.Fatal(err)
		}
		oid = append(oid, number)
	}
	return oid
}

func algorithmOf(t *testing.T, oid string, params any) algorithm {
	t.Helper()
	der, err := asn1.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return algorithm{OID: objectIDOf(t, oid), Parameters: asn1.RawValue{FullBytes: der}}
}

// withKDF is openssl's aes-256-cbc file with another key derivation written into it.
func withKDF(t *testing.T, kdf algorithm) []byte {
	t.Helper()
	block := pemIn(t, "aes256.p8")
	var key encryptedKey
	var scheme pbes2
	if _, err := asn1.Unmarshal(block.Bytes, &key); err != nil {
		t.Fatal(err)
	}
	if err := unmarshal(key.Algorithm, &scheme); err != nil {
		t.Fatal(err)
	}
	scheme.KDF = kdf
	key.Algorithm = algorithmOf(t, oidPBES2, scheme)
	der, err := asn1.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	block.Bytes = der
	return pem.EncodeToMemory(block)
}
