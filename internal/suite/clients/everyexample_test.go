//go:build clients

package clients

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExamples_EachProgramIsRun(t *testing.T) {
	run := map[string]bool{} // the programs, by directory and name
	note := func(directory string, command []string) {
		for _, argument := range command {
			run[filepath.Join(directory, filepath.Base(argument))] = true
		}
	}
	for _, r := range matrix {
		note(r.directory, r.command)
	}
	for _, f := range followers {
		note(f.directory, f.command)
	}
	err := filepath.WalkDir("../../../examples/clients", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".py", ".sh", ".mjs", ".java", ".rs"}, filepath.Ext(path)) {
			return err
		}
		name := strings.TrimSuffix(d.Name(), ".rs") // built
		if directory := filepath.Base(filepath.Dir(path)); !run[filepath.Join(directory, name)] {
			t.Errorf("no row and no follower runs %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
