package decrypt

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// unencryptedTexts gives texts that hold the key of testdata/rsa.pem, not encrypted, in forms that openssl does
// not write.
func unencryptedTexts(t testing.TB) map[string][]byte {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	pem, cert, pub := read("rsa.pem"), read("certificate"), read("rsa.pub")
	key, err := keyfile.Parse([]byte(pem))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string][]byte{
		"DER":         keyfile.DER.Encode(key),
		"DER, PKCS#1": x509.MarshalPKCS1PrivateKey(key.RSA()),
	}
	for name, text := range map[string]string{
		"byte order mark":             "\ufeff" + pem,
		"byte order mark, base64":     "\ufeff" + read("unencrypted-body-alone"),
		"CRLF":                        strings.ReplaceAll(pem, "\n", "\r\n"),
		"CR only":                     strings.ReplaceAll(pem, "\n", "\r"),
		"spaces for line breaks":      strings.ReplaceAll(pem, "\n", " "),
		"no line breaks":              strings.ReplaceAll(pem, "\n", ""),
		"line breaks written out":     strings.ReplaceAll(pem, "\n", `\n`),
		"CRLF written out":            strings.ReplaceAll(pem, "\n", `\r\n`),
		"spaces around the lines":     " \n\t  " + strings.ReplaceAll(pem, "\n", "\t\n  "),
		"text before":                 "Bag Attributes\n    friendlyName: x\n" + pem,
		"text after":                  pem + "end",
		"certificate before":          cert + pem,
		"certificate after":           pem + cert,
		"public key before":           pub + pem,
		"encrypted key after":         pem + read("aes256.p8"),
		"label of an encrypted key":   strings.ReplaceAll(pem, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
		"label of PKCS#1":             strings.ReplaceAll(pem, "PRIVATE KEY", "RSA PRIVATE KEY"),
		"PKCS#1 with PKCS#8's label":  strings.ReplaceAll(read("pkcs1"), "RSA PRIVATE KEY", "PRIVATE KEY"),
		"base64 on one line":          base64.StdEncoding.EncodeToString(keyfile.DER.Encode(key)),
		"base64, breaks written out":  strings.ReplaceAll(read("unencrypted-body-alone"), "\n", `\n`),
		"JSON that is no such secret": `["` + strings.ReplaceAll(pem, "\n", `\n`) + `"]`,
	} {
		texts[name] = []byte(text)
	}
	return texts
}

// checkParity compares Parse without a passphrase to keyfile.Parse: both read the same key, which checkParity
// returns, or both refuse the text for the same kind of reason.
// checkParity is not for managed secrets: their JSON is not a form of key files.
func checkParity(t *testing.T, text []byte) *keyfile.Key {
	t.Helper()
	stored, err := Parse(secret.New(bytes.Clone(text)), secret.Value{})
	key := stored.Key
	parsed, parseErr := keyfile.Parse(text)
	if (err == nil) != (parseErr == nil) || !key.Equal(parsed) {
		t.Fatalf("Parse gives %v, %v; keyfile.Parse gives %v, %v", key, err, parsed, parseErr)
	}
	if err == nil {
		return key
	}
	want := keyfile.ErrNotKey
	switch says := err.Error(); {
	case strings.Contains(says, "the key is encrypted"):
		want = keyfile.ErrEncrypted
	case strings.Contains(says, "RSA only"):
		want = keyfile.ErrNotRSA
	case strings.Contains(says, "shorter than 2048 bits"):
		want = keyfile.ErrTooShort
	case strings.Contains(says, "longer than 8192 bits"):
		want = keyfile.ErrTooLong
	case strings.Contains(says, "primes are not prime"):
		want = keyfile.ErrNotPrime
	case strings.Contains(says, "more than two primes"):
		want = keyfile.ErrMultiPrime
	case errors.Is(parseErr, keyfile.ErrEncrypted):
		want = keyfile.ErrEncrypted // and damaged, which keyfile does not examine
	}
	if !errors.Is(parseErr, want) {
		t.Fatalf("Parse says %q; keyfile.Parse says %q", err, parseErr)
	}
	return nil
}

func TestParse_SameAsKeyfile(t *testing.T) {
	fingerprint := fingerprintIn(t, "testdata")
	for name, text := range unencryptedTexts(t) {
		t.Run(name, func(t *testing.T) {
			if key := checkParity(t, text); key == nil || key.Fingerprint() != fingerprint {
				t.Errorf("read %v, want %s", key, fingerprint)
			}
		})
	}
	// The files that openssl wrote, encrypted or not.
	read := 0
	for _, f := range forms {
		if strings.HasPrefix(f.name, "managed-secret") {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", f.name))
			if err != nil {
				t.Fatal(err)
			}
			if key := checkParity(t, text); key != nil {
				read++
			}
		})
	}
	if read < 5 {
		t.Errorf("%d files are read without a passphrase", read)
	}
}
