package checks

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The programs are to be copied: short, and with packages from wherever the reader's machine has them.
func TestClientsAreShortAndNameNoRegistry(t *testing.T) {
	programs := 0
	err := filepath.WalkDir("../../examples/clients", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text := read(t, path)
		if slices.Contains([]string{".py", ".mjs", ".java"}, filepath.Ext(path)) {
			programs++
			if n := strings.Count(text, "\n"); n >= 80 {
				t.Errorf("%s has %d lines: keep it under 80", path, n)
			}
		}
		for _, pin := range []string{`"resolved":`, "--index-url", "--find-links", "<repository>", "registry="} {
			if strings.Contains(text, pin) {
				t.Errorf("%s has %s, which names a registry", path, pin)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if programs < 4 {
		t.Errorf("%d programs", programs)
	}
}
