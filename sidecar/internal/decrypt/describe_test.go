package decrypt

import (
	"os"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The files are openssl's, made with the options that their names say.
func TestEncryptionIsSaidInTheWordsOfOpenssl(t *testing.T) {
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
		if got := Encryption(secret.New(text)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
