package keyfile_test

import (
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

func BenchmarkParse(b *testing.B) {
	for _, f := range keyfile.Formats {
		b.Run(string(f), func(b *testing.B) {
			data := f.Encode(testkey.Key(0))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keyfile.Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseStatus(b *testing.B) {
	data := []byte(`{
  "schema": 1,
  "fingerprint": "SHA256:x4dXPZ0nRzvvlyBXXQDMMCnTmvGL1Jq1rJdvFbkLSOo=",
  "source": "/app/key",
  "version": "3",
  "stored_at": "2026-01-02T03:04:05.006Z",
  "published_at": "2026-01-02T03:05:05Z",
  "checked_at": "2026-01-02T03:10:05Z",
  "filesystem": "tmpfs"
}
`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keyfile.ParseStatus(data); err != nil {
			b.Fatal(err)
		}
	}
}
