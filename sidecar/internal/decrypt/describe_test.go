package decrypt

import (
	"os"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The files are openssl's, made with the options that their names say.
func TestParse_NamesEncryption(t *testing.T) {
	for name, want := range map[string]string{
		"aes256.p8":              "aes-256-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations",
		"aes-128-cbc":            "aes-128-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations",
		"des3":                   "des-ede3-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations",
		"prf-sha1":               "aes-256-cbc, PBKDF2 with hmacWithSHA1, 2048 iterations",
		"prf-sha512-256":         "aes-256-cbc, PBKDF2 with hmacWithSHA512-256, 2048 iterations",
		"scrypt":                 "aes-256-cbc, scrypt with N=16384, r=8, p=1",
		"unencrypted":            "",
		"pkcs1":                  "",
		"camellia":               "",
		"traditional-encryption": "",
		"empty":                  "",
	} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for how, given := range map[string]secret.Value{
			"right": secret.New([]byte(passphrase)), "wrong": secret.New([]byte("wrong")), "no": {},
		} {
			if stored, _ := Parse(secret.New(text), given); stored.Encryption != want {
				t.Errorf("%s with %s passphrase: %q, want %q", name, how, stored.Encryption, want)
			}
		}
	}
}
