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
	run := map[string]string{} // the commands in each folder
	for _, r := range matrix {
		run[r.folder] += " " + strings.Join(r.command, " ")
	}
	for _, f := range followers {
		run[f.folder] += " " + strings.Join(f.command, " ")
	}
	err := filepath.WalkDir("../../examples/clients", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".py", ".sh", ".mjs", ".rs"}, filepath.Ext(path)) {
			return err
		}
		if folder := filepath.Base(filepath.Dir(path)); !slices.Contains(strings.Fields(run[folder]), d.Name()) {
			t.Errorf("no row and no follower runs %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
