package decrypt

import (
	"bytes"
	"crypto/aes"
	block "crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func pemOf(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func cbcOf(t *testing.T, key, iv, plain []byte) []byte {
	t.Helper()
	cipher, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	block.NewCBCEncrypter(cipher, iv).CryptBlocks(data, data)
	return data
}

// withGCM is the PKCS#8 of testdata/rsa.pem under AES-GCM with 1000 iterations of PBKDF2, in parameters of any kind.
func withGCM(t *testing.T, oid string, keySize int, params any, nonce []byte, tag int) []byte {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, passphrase, []byte("salt"), 1000, keySize)
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := block.NewGCMWithTagSize(cipher, tag)
	if err != nil {
		t.Fatal(err)
	}
	data := gcm.Seal(nil, nonce, derOf(testdata(t, "rsa.pem")), nil)
	return encryptedBy(t, pbkdf2Of(t, 1000, hmacSHA256), algorithmOf(t, oid, params), data)
}

type gcmParams struct {
	Nonce []byte
	Tag   int `asn1:"optional"`
}

// Bouncy Castle writes the parameters of RFC 5084; others write the nonce alone.
func TestParse_ReadsGCM(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	nonce := []byte("twelve bytes")
	for oid, size := range map[string]int{"2.16.840.1.101.3.4.1.6": 16, "2.16.840.1.101.3.4.1.26": 24, "2.16.840.1.101.3.4.1.46": 32} {
		key, err := keyfile.Parse([]byte(testdata(t, "rsa.pem")))
		if err != nil {
			t.Fatal(err)
		}
		der, err := pkcs8.MarshalPrivateKey(key.RSA(), []byte(passphrase), &pkcs8.Opts{
			Cipher: map[string]pkcs8.Cipher{
				"2.16.840.1.101.3.4.1.6": pkcs8.AES128GCM, "2.16.840.1.101.3.4.1.26": pkcs8.AES192GCM, "2.16.840.1.101.3.4.1.46": pkcs8.AES256GCM,
			}[oid],
			KDFOpts: pkcs8.DefaultOpts.KDFOpts,
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string][]byte{
			"tag of 16":            withGCM(t, oid, size, gcmParams{nonce, 16}, nonce, 16),
			"tag of 14":            withGCM(t, oid, size, gcmParams{nonce, 14}, nonce, 14),
			"RFC 5084's default":   withGCM(t, oid, size, gcmParams{nonce, 0}, nonce, 12),
			"the nonce alone":      withGCM(t, oid, size, nonce, nonce, 16),
			"youmark/pkcs8's kind": pemOf("ENCRYPTED PRIVATE KEY", der),
		} {
			t.Run(fmt.Sprintf("%d bits, %s", size*8, name), func(t *testing.T) {
				stored, err := Parse(secret.New(text), secret.New([]byte(passphrase)))
				if err != nil || stored.Key.Fingerprint() != fingerprint {
					t.Fatalf("read %v, %v", stored.Key, err)
				}
				if want := fmt.Sprintf("aes-%d-gcm, PBKDF2 with hmacWithSHA256, ", size*8); !strings.HasPrefix(stored.Encryption, want) {
					t.Errorf("encryption %q", stored.Encryption)
				}
				_, err = Parse(secret.New(text), secret.New([]byte("wrong")))
				if failure.Class(err) != keyfile.ClassPassphrase {
					t.Errorf("with a wrong passphrase: %v", err)
				}
			})
		}
	}
}

// JcePKCSPBEOutputEncryptorBuilder of Bouncy Castle 1.78 made the file.
func TestParse_ReadsGCMOfBouncyCastle(t *testing.T) {
	stored, err := Parse(secret.New([]byte(testdata(t, "bouncycastle-gcm"))), secret.New([]byte(passphrase)))
	if err != nil || stored.Key.Fingerprint() != fingerprintIn(t, "testdata") {
		t.Fatalf("read %v, %v", stored.Key, err)
	}
}

func TestParse_RefusesDamagedGCM(t *testing.T) {
	const oid = "2.16.840.1.101.3.4.1.46"
	nonce := []byte("twelve bytes")
	kdf := pbkdf2Of(t, 1000, hmacSHA256)
	null := algorithm{OID: objectIDOf(t, oid), Parameters: asn1.NullRawValue}
	for name, tc := range map[string]struct {
		text []byte
		says string
	}{
		"a short nonce":     {encryptedBy(t, kdf, algorithmOf(t, oid, gcmParams{nonce[:8], 16}), make([]byte, 64)), "cipher parameters are damaged"},
		"a long nonce":      {encryptedBy(t, kdf, algorithmOf(t, oid, gcmParams{make([]byte, 1000), 16}), make([]byte, 64)), "cipher parameters are damaged"},
		"a short tag":       {encryptedBy(t, kdf, algorithmOf(t, oid, gcmParams{nonce, 4}), make([]byte, 64)), "cipher parameters are damaged"},
		"a negative tag":    {encryptedBy(t, kdf, algorithmOf(t, oid, gcmParams{nonce, -1}), make([]byte, 64)), "cipher parameters are damaged"},
		"no parameters":     {encryptedBy(t, kdf, null, make([]byte, 64)), "cipher parameters are damaged"},
		"less than a tag":   {encryptedBy(t, kdf, algorithmOf(t, oid, gcmParams{nonce, 16}), make([]byte, 16)), "truncated"},
		"nothing":           {encryptedBy(t, kdf, algorithmOf(t, oid, nonce), nil), "truncated"},
		"more than any key": {encryptedBy(t, kdf, algorithmOf(t, oid, nonce), make([]byte, 10000)), "longer than 8192 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(secret.New(tc.text), secret.New([]byte(passphrase)))
			if err == nil || !strings.Contains(err.Error(), tc.says) || failure.Class(err) != keyfile.ClassUnreadableKey {
				t.Errorf("error %v, want one with %q", err, tc.says)
			}
		})
	}
}

// Bouncy Castle can derive with SHA-3; openssl 3.0 writes none.
func TestParse_ReadsSHA3(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	for oid, name := range map[string]string{
		"2.16.840.1.101.3.4.2.13": "hmacWithSHA3-224", "2.16.840.1.101.3.4.2.14": "hmacWithSHA3-256",
		"2.16.840.1.101.3.4.2.15": "hmacWithSHA3-384", "2.16.840.1.101.3.4.2.16": "hmacWithSHA3-512",
	} {
		key, err := pbkdf2.Key(prfs[oid].hash, passphrase, []byte("salt"), 1000, 32)
		if err != nil {
			t.Fatal(err)
		}
		iv := make([]byte, aes.BlockSize)
		data := cbcOf(t, key, iv, derOf(testdata(t, "rsa.pem")))
		text := encryptedBy(t, pbkdf2Of(t, 1000, oid), algorithmOf(t, "2.16.840.1.101.3.4.1.42", iv), data)
		stored, err := Parse(secret.New(text), secret.New([]byte(passphrase)))
		if err != nil || stored.Key.Fingerprint() != fingerprint || !strings.Contains(stored.Encryption, name) {
			t.Errorf("%s: read %v, %q, %v", name, stored.Key, stored.Encryption, err)
		}
	}
}
