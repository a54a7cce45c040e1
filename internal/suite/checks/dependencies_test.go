package checks

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// Every module that go.mod requires for ourselves has a reason in CONTRIBUTING.md, and no reason is left
// behind by a module that went.
func TestDependencies_HaveReasons(t *testing.T) {
	for _, wrong := range unreasoned(t, testenv.Read(t, "../../../go.mod"), testenv.Read(t, "../../../CONTRIBUTING.md")) {
		t.Error(wrong)
	}
}

func TestDependencies_MissingReasonIsFound(t *testing.T) {
	const mod = "module m\nrequire example.org/a v1.0.0\nrequire example.org/b v1.0.0 // indirect\n"
	const table = "## Dependencies\n\n| module | why |\n| --- | --- |\n"
	for rows, want := range map[string]int{
		"| `example.org/a` | it is needed |\n": 0,
		"":                                     1,
		"| `example.org/a` | |\n":              1,
		"| `example.org/b` | it is needed |\n": 2,
		"| `example.org/a`, `example.org/c` | it is needed |\n":             1,
		"| `example.org/a` | why |\n\n## More\n\n| `example.org/z` | x |\n": 0,
	} {
		if got := unreasoned(t, mod, table+rows); len(got) != want {
			t.Errorf("%q: %q", rows, got)
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| *(.*?) *\\|$")

func unreasoned(t *testing.T, gomod, contributing string) []string {
	t.Helper()
	_, section, _ := strings.Cut(contributing, "## Dependencies\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var explained, wrong []string
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		for _, name := range codeSpan.FindAllString(m[1], -1) {
			if name = strings.Trim(name, "`"); m[2] != "" {
				explained = append(explained, name)
			}
		}
	}
	var direct []string
	for _, r := range requirements(t, gomod) {
		if r.Indirect {
			continue
		}
		direct = append(direct, r.Path)
		if !slices.Contains(explained, r.Path) {
			wrong = append(wrong, r.Path+" is in go.mod: say why in CONTRIBUTING.md, or do without it")
		}
	}
	for _, name := range explained {
		if !slices.Contains(direct, name) {
			wrong = append(wrong, name+" has a reason in CONTRIBUTING.md, but go.mod does not require it")
		}
	}
	return wrong
}

type requirement struct {
	Path     string
	Indirect bool
}

func requirements(t *testing.T, gomod string) []requirement {
	t.Helper()
	path := filepath.Join(t.TempDir(), "go.mod")
	if err := os.WriteFile(path, []byte(gomod), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Require []requirement }
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	return file.Require
}
