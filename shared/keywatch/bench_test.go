package keywatch

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// BenchmarkRefresh is what each poll and each event costs.
func BenchmarkRefresh(b *testing.B) {
	for name, keys := range map[string]int{"unchanged": 1, "changed": 2} {
		b.Run(name, func(b *testing.B) {
			paths := make([]string, keys)
			for n := range paths {
				paths[n] = filepath.Join(b.TempDir(), keyfile.DER.FileName())
				if err := os.WriteFile(paths[n], keyfile.DER.Encode(testkey.Key(n)), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			w := &Watcher{path: paths[0], log: slog.New(slog.DiscardHandler), ready: make(chan struct{}), updated: make(chan struct{}, 1)}
			w.state.Store(&state{})
			last := w.readFile(b.Context(), contentHash{})
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				before := last
				w.path = paths[n%keys]
				last = w.readFile(b.Context(), last)
				if w.Err() != nil || (last != before) != (keys > 1) {
					b.Fatal(w.Err())
				}
			}
		})
	}
}
