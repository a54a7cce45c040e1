package checks

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

func TestPackages_TestsDoNotDependOnTheShell(t *testing.T) {
	t.Parallel()
	imports := map[string]bool{} // by directory with tests
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) == "testenv" || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		dir := filepath.Dir(path)
		imports[dir] = imports[dir] || strings.Contains(testenv.Read(t, path), `import _ "`+module+`/internal/tools/testenv"`)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(imports) < 30 {
		t.Errorf("only %d packages with tests were found", len(imports))
	}
	for dir, ok := range imports {
		if !ok {
			t.Errorf(`no file in %s has import _ "%s/internal/tools/testenv": its tests depend on the shell that runs them`, dir, module)
		}
	}
}
