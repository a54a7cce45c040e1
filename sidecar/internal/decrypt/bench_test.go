package decrypt

import (
	"os"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// BenchmarkParse opens a key as openssl encrypts it unless told otherwise.
func BenchmarkParse(b *testing.B) {
	encrypted, err := os.ReadFile("testdata/aes256.p8")
	if err != nil {
		b.Fatal(err)
	}
	text, given := secret.New(encrypted), secret.New([]byte(passphrase))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text, given); err != nil {
			b.Fatal(err)
		}
	}
}
