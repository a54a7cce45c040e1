// Package checks holds the repository to its own rules: who may import whom, and that what the
// documentation shows is what the program does. It has tests only.
package checks

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

const (
	module      = "github.com/snowkey/snowkey"
	aws         = "github.com/aws/aws-sdk-go-v2"
	gosnowflake = "github.com/snowflakedb/gosnowflake"
)

// A rule says what some packages never import; tests are free.
type rule struct {
	name   string
	of     func(pkg string) bool // the packages it is about
	deep   bool                  // what they import imports counts, too
	forbid func(imported string) bool
}

var rules = []rule{
	{
		name:   "the sidecar has no Snowflake driver: it would make the binary half as large again",
		of:     under("sidecar"),
		deep:   true,
		forbid: from(gosnowflake),
	},
	{
		name: "shared is for other people's programs: no AWS SDK, nothing internal but identity and keytext",
		of:   under("shared"),
		forbid: func(imported string) bool {
			return anyOf(from(aws), under("internal"), under("sidecar"))(imported) && !anyOf(under("internal/identity"), under("internal/keytext"))(imported)
		},
	},
	{
		name:   "keyfile needs the standard library and keytext alone",
		of:     under("shared/keyfile"),
		forbid: allBut(under("internal/keytext")),
	},
	{
		name:   "identity and keytext need the standard library alone",
		of:     anyOf(under("internal/identity"), under("internal/keytext")),
		forbid: func(imported string) bool { return strings.Contains(imported, ".") },
	},
	{
		name:   "keywatch needs keyfile and fsnotify alone",
		of:     under("shared/keywatch"),
		forbid: allBut(under("shared/keyfile"), from("github.com/fsnotify/fsnotify")),
	},
	{
		name:   "the consumer shows what an application needs of ours: shared",
		of:     under("consumer"),
		forbid: func(imported string) bool { return from(module)(imported) && !under("shared")(imported) },
	},
	{
		name:   "the local endpoints are for tests, the demo, what measures, and localcloud",
		of:     not(anyOf(under("internal/local"), under("internal/tools/demo"), under("internal/perf"))),
		forbid: under("internal/local"),
	},
	{
		name:   "test keys are for tests and the benchmarks",
		of:     not(under("internal/perf")),
		forbid: under("internal/tools/testkey"),
	},
	{
		name:   "what reaches another AWS is for tests",
		of:     from(module),
		forbid: under("internal/tools/awsemulator"),
	},
	{
		name:   "service account tokens are made for tests",
		of:     from(module),
		forbid: under("internal/tools/podtoken"),
	},
	{
		name:   "the reader of the examples is for tests",
		of:     from(module),
		forbid: anyOf(under("internal/suite/taskdef"), under("internal/suite/manifests")),
	},
	{
		name:   "the sidecar's arrows run one way: what handles secrets knows nothing of what uses it",
		of:     anyOf(under("sidecar/internal/secret"), under("sidecar/internal/failure"), under("sidecar/internal/decrypt")),
		forbid: anyOf(under("sidecar/internal/ssm"), under("sidecar/internal/publish"), under("sidecar/internal/refresh"), under("sidecar/internal/config")),
	},
	{
		name: "settings know nothing of what uses them",
		of:   under("sidecar/internal/config"),
		forbid: anyOf(under("sidecar/internal/daemon"), under("sidecar/internal/exec"), under("sidecar/internal/refresh"), under("sidecar/internal/publish"),
			under("sidecar/internal/keygen"), under("sidecar/internal/rotate"), under("sidecar/internal/doctor")),
	},
	{
		name:   "what runs a command knows nothing of keys: the standard library, the system's own calls, and where it runs",
		of:     under("sidecar/internal/supervise"),
		forbid: allBut(from("golang.org/x/sys"), under("sidecar/internal/platform")),
	},
	{
		name:   "where a process runs is said with the standard library alone",
		of:     under("sidecar/internal/platform"),
		forbid: func(imported string) bool { return strings.Contains(imported, ".") },
	},
}

func TestImports(t *testing.T) {
	testenv.Slow(t)
	imports := goList(t)
	for _, r := range rules {
		for _, broken := range r.broken(imports) {
			t.Errorf("%s: %s", r.name, broken)
		}
	}
}

// Each rule is broken once, so that none is a rule that cannot be broken.
func TestImports_EachRuleCanBeBroken(t *testing.T) {
	for i, bad := range []map[string][]string{
		{module + "/sidecar/internal/x": {module + "/y"}, module + "/y": {gosnowflake + "/v2"}},
		{module + "/shared/x": {aws + "/service/ssm"}},
		{module + "/shared/keyfile": {"strings", "golang.org/x/sys/unix"}},
		{module + "/internal/identity": {"strings", "golang.org/x/net/idna"}},
		{module + "/shared/keywatch": {"os", gosnowflake + "/v2"}},
		{module + "/consumer": {module + "/sidecar/internal/config"}},
		{module + "/sidecar": {module + "/internal/local/localssm"}},
		{module + "/shared/x": {module + "/internal/tools/testkey"}},
		{module + "/shared/x": {module + "/internal/tools/awsemulator"}},
		{module + "/sidecar": {module + "/internal/tools/podtoken"}},
		{module + "/sidecar": {module + "/internal/suite/taskdef"}},
		{module + "/sidecar/internal/secret": {module + "/sidecar/internal/refresh"}},
		{module + "/sidecar/internal/config": {"os", module + "/sidecar/internal/daemon"}},
		{module + "/sidecar/internal/supervise": {"os", module + "/shared/keyfile"}},
		{module + "/sidecar/internal/platform": {"os", module + "/shared/keyfile"}},
	} {
		if rules[i].broken(bad) == nil {
			t.Errorf("not noticed: %s: %v", rules[i].name, bad)
		}
	}
}

// broken are the imports that r forbids, as "importer imports imported".
func (r rule) broken(imports map[string][]string) []string {
	var found []string
	for pkg := range imports {
		if !from(module)(pkg) || !r.of(pkg) {
			continue
		}
		reached := imports[pkg]
		if r.deep {
			reached = closure(imports, pkg)
		}
		for _, imported := range reached {
			if r.forbid(imported) {
				found = append(found, pkg+" imports "+imported)
			}
		}
	}
	slices.Sort(found)
	return found
}

func closure(imports map[string][]string, pkg string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(p string) {
		for _, imported := range imports[p] {
			if !seen[imported] {
				seen[imported] = true
				visit(imported)
			}
		}
	}
	visit(pkg)
	var all []string
	for p := range seen {
		all = append(all, p)
	}
	return all
}

// goList gives the imports of every package that the module builds from, tests left out.
func goList(t *testing.T) map[string][]string {
	t.Helper()
	touchSources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	imports := map[string][]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		imports[p.ImportPath] = p.Imports
	}
	if len(imports) < 100 {
		t.Fatalf("go list gave %d packages", len(imports))
	}
	return imports
}

// touchSources opens every source file: go test repeats a cached result as long as the files that the
// test itself opened are the same, and knows nothing of those that go list opens.
func touchSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// from matches a package and all below it.
func from(path string) func(string) bool {
	return func(pkg string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }
}

// under matches a directory of this module.
func under(directory string) func(string) bool { return from(module + "/" + directory) }

func anyOf(matches ...func(string) bool) func(string) bool {
	return func(pkg string) bool {
		return slices.ContainsFunc(matches, func(m func(string) bool) bool { return m(pkg) })
	}
}

func not(match func(string) bool) func(string) bool {
	return func(pkg string) bool { return !match(pkg) }
}

// allBut matches what is neither one of matches nor in the standard library.
func allBut(matches ...func(string) bool) func(string) bool {
	return func(pkg string) bool { return strings.Contains(pkg, ".") && !anyOf(matches...)(pkg) }
}
