package checks

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

const clients = "../../../examples/clients"

// The programs are to be copied: short, and with packages from wherever the reader's machine has them.
func TestClients_AreShortAndNameNoRegistry(t *testing.T) {
	programs := 0
	err := filepath.WalkDir(clients, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text := testenv.Read(t, path)
		if slices.Contains([]string{".py", ".mjs", ".java", ".rs", ".sh"}, filepath.Ext(path)) {
			programs++
			if n := strings.Count(text, "\n"); n > 80 {
				t.Errorf("%s has %d lines: keep it to 80", path, n)
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

func TestClients_EveryDirectoryHasItsPinsAndIsInTheREADME(t *testing.T) {
	directories, err := os.ReadDir(clients)
	if err != nil {
		t.Fatal(err)
	}
	readme := testenv.Read(t, clients+"/README.md")
	for _, f := range directories {
		if !f.IsDir() {
			continue
		}
		if !slices.ContainsFunc([]string{"requirements.txt", "package-lock.json", "pom.xml", "Cargo.lock"}, func(pins string) bool {
			_, err := os.Stat(filepath.Join(clients, f.Name(), pins))
			return err == nil
		}) {
			t.Errorf("examples/clients/%s pins nothing", f.Name())
		}
		if !strings.Contains(readme, "`"+f.Name()+"/`") {
			t.Errorf("examples/clients/README.md does not have `%s/`", f.Name())
		}
	}
}

// A package without a version is another one at each installation.
func TestClients_RequirementsAreExact(t *testing.T) {
	for _, pattern := range []string{clients + "/*/requirements.txt", "../clients/testdata/installed/*/requirements.txt"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			for line := range strings.Lines(testenv.Read(t, file)) {
				if !strings.HasPrefix(line, "#") && !strings.Contains(line, "==") {
					t.Errorf("%s: %s", file, line)
				}
			}
		}
	}
}
