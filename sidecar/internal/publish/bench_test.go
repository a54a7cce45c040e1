package publish_test

import (
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// BenchmarkKey publishes in the formats that are the default.
func BenchmarkKey(b *testing.B) {
	all := []*keyfile.Key{testkey.Key(0), asLongAs(testkey.Key(0))}
	for name, keys := range map[string][]*keyfile.Key{"unchanged": all[:1], "changed": all} {
		b.Run(name, func(b *testing.B) {
			d := publish.New(publish.Dir{Path: b.TempDir(), Formats: []keyfile.Format{keyfile.DER, keyfile.PEM}, Mode: 0o440})
			if _, err := d.Key(keys[0]); err != nil {
				b.Fatal(err)
			}
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				changed, err := d.Key(keys[n%len(keys)])
				if err != nil || changed != (len(keys) > 1) {
					b.Fatal(changed, err)
				}
			}
		})
	}
}

// asLongAs is another key whose files are as long: only then what is on disk is read before it is replaced,
// and what is allocated for it would depend on which keys these are.
func asLongAs(k *keyfile.Key) *keyfile.Key {
	for n := 1; ; n++ {
		if other := testkey.Key(n); len(keyfile.DER.Encode(other)) == len(keyfile.DER.Encode(k)) {
			return other
		}
	}
}
