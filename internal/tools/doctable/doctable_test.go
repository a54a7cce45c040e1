package doctable_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

const page = "before\n<!-- one: made by make one -->\nold 1\n<!-- end of one -->\nbetween\n<!-- one of two -->\nold 2\n<!-- end of one of two -->\nafter\n"

func TestWrite_ReplacesThePartOfItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	for name, old := range map[string]string{"one": "old 1\n", "one of two": "old 2\n"} {
		if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := doctable.Read(path, name); err != nil || text != old {
			t.Errorf("%s: read %q, %v", name, text, err)
		}
		if err := doctable.Write(path, name, "new\n"); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != strings.Replace(page, old, "new\n", 1) {
			t.Errorf("%s: it has\n%s, %v", name, text, err)
		}
		if doctable.Compare(path, name, "new\n") != nil || doctable.Compare(path, name, old) == nil {
			t.Errorf("%s: the comparison is wrong", name)
		}
	}
}

func TestRead_MissingMarksHaveAdvice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	for _, text := range []string{"", "<!-- one -->\n", "<!-- end of one -->\n<!-- one -->\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := doctable.Read(path, "one"); err == nil || !strings.Contains(err.Error(), "add the lines <!-- one --> and <!-- end of one -->") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
