package decrypt

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// crypto/x509 lets all of them through.
func TestParse_RefusesUnusableRSA(t *testing.T) {
	testenv.Heavy(t)
	multi, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048) //nolint:staticcheck // others may still make them
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		der  []byte
		want string
	}{
		"primes that are not prime": {testkey.Forged(2048), "primes are not prime"},
		"the longest, not prime":    {testkey.Forged(keyfile.MaxBits), "primes are not prime"},
		"16384 bits":                {testkey.Forged(16384), "longer than 8192 bits"},
		"80000 bits":                {testkey.Forged(80000), "longer than 8192 bits"},
		"three primes":              {x509.MarshalPKCS1PrivateKey(multi), "more than two primes"},
	} {
		private, err := x509.ParsePKCS1PrivateKey(tc.der)
		if err != nil {
			t.Fatal(err)
		}
		encrypted, err := pkcs8.MarshalPrivateKey(private, []byte(passphrase), nil)
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string][]byte{
			"not encrypted": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: tc.der}),
			"encrypted":     pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted}),
		} {
			t.Run(name+", "+form, func(t *testing.T) {
				start := time.Now()
				stored, err := Parse(secret.New(text), secret.New([]byte(passphrase)))
				if err == nil || stored.Key != nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), makeAnother) {
					t.Fatalf("key %v, error %v, want one with %q", stored.Key, err, tc.want)
				}
				if failure.Class(err) != keyfile.ClassUnreadableKey {
					t.Errorf("class %s", failure.Class(err))
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}
