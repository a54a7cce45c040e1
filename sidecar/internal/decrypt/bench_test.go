package decrypt

import (
	"os"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// BenchmarkKey opens a key as openssl encrypts it unless told otherwise.
func BenchmarkKey(b *testing.B) {
	encrypted, err := os.ReadFile("testdata/aes256.p8")
	if err != nil {
		b.Fatal(err)
	}
	text, given := secret.New(encrypted), secret.New([]byte(passphrase))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Key(text, given); err != nil {
			b.Fatal(err)
		}
	}
}
