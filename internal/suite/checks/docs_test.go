package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// The READMEs show the lines of examples/taskdef/fargate.json that matter: each is in the file as it is shown.
func TestREADMEShowsTheTaskDefinition(t *testing.T) {
	whole := decode(t, testenv.Read(t, "../../../examples/taskdef/fargate.json"))
	for _, path := range []string{"../../../README.md", "../../../README.ja.md"} {
		for _, line := range notIn(decode(t, shownTaskDefinition(t, path)), whole, "") {
			t.Errorf("%s shows another task definition than examples/taskdef/fargate.json: %s", path, line)
		}
	}
}

func TestREADMEShowsTheTaskDefinition_DifferenceIsNoticed(t *testing.T) {
	whole := decode(t, testenv.Read(t, "../../../examples/taskdef/fargate.json"))
	shown := shownTaskDefinition(t, "../../../README.md")
	for old, changed := range map[string]string{
		`"/app/passphrase"`:           `"/app/pass"`,
		`"65532:65532"`:               `"0:0"`,
		`"containerPath"`:             `"path"`,
		`"retries": 3`:                `"retries": 4`,
		`"condition": "HEALTHY"`:      `"condition": "START"`,
		`[{"name": "snowflake-key"}]`: `"snowflake-key"`,
	} {
		if !strings.Contains(shown, old) {
			t.Fatalf("README.md does not show %s", old)
		}
		if notIn(decode(t, strings.Replace(shown, old, changed, 1)), whole, "") == nil {
			t.Errorf("%s for %s: not noticed", changed, old)
		}
	}
}

func shownTaskDefinition(t *testing.T, path string) string {
	t.Helper()
	_, rest, ok := strings.Cut(testenv.Read(t, path), "<!-- fargate.json:")
	_, rest, ok2 := strings.Cut(rest, "```json\n")
	shown, _, ok3 := strings.Cut(rest, "```\n")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no task definition", path)
	}
	return shown
}

func decode(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// notIn are the places in shown that whole does not have. An element of a list is one of whole's elements, or a part of it.
func notIn(shown, whole any, at string) []string {
	switch s := shown.(type) {
	case map[string]any:
		w, ok := whole.(map[string]any)
		if !ok {
			return []string{at}
		}
		var missing []string
		for name, value := range s {
			missing = append(missing, notIn(value, w[name], at+"/"+name)...)
		}
		return missing
	case []any:
		w, ok := whole.([]any)
		if !ok {
			return []string{at}
		}
		var missing []string
		for i, value := range s {
			if !slices.ContainsFunc(w, func(other any) bool { return notIn(value, other, "") == nil }) {
				missing = append(missing, fmt.Sprintf("%s/%d", at, i))
			}
		}
		return missing
	}
	if !reflect.DeepEqual(shown, whole) {
		return []string{at}
	}
	return nil
}

// The lines of the demo's table that the READMEs show are those that it prints, with other values.
func TestREADME_ShowsTheDemosTable(t *testing.T) {
	report := testenv.Read(t, "../../tools/demo/report.go")
	for _, path := range []string{"../../../README.md", "../../../README.ja.md"} {
		_, rest, _ := strings.Cut(testenv.Read(t, path), "```text\n")
		table, _, ok := strings.Cut(rest, "```\n")
		labels := tableLabel.FindAllStringSubmatch(table, -1)
		if !ok || len(labels) != strings.Count(table, "\n") || len(labels) != strings.Count(report, "\t\t{\"") {
			t.Errorf("%s shows another table than the demo prints:\n%s", path, table)
		}
		for _, label := range labels {
			if !strings.Contains(report, "\t\t{\""+label[1]+"\", ") {
				t.Errorf("%s: the demo prints no %q", path, label[1])
			}
		}
	}
}

var tableLabel = regexp.MustCompile(`(?m)^  (\S+(?: \S+)*)   +\S+$`)

// Go programs in the documentation compile as they stand.
func TestDocuments_GoProgramsCompile(t *testing.T) {
	testenv.Slow(t)
	var programs []string
	for _, path := range pages(t) {
		for _, m := range goBlock.FindAllStringSubmatch(testenv.Read(t, path), -1) {
			if strings.HasPrefix(m[1], "package ") && !slices.Contains(programs, m[1]) {
				programs = append(programs, m[1])
			}
		}
	}
	if len(programs) == 0 {
		t.Fatal("no program was found")
	}
	for i, program := range programs {
		if out, err := vet(t, program); err != nil {
			t.Errorf("program %d does not compile: %v\n%s\n%s", i+1, err, out, program)
		}
	}
	if out, err := vet(t, strings.Replace(programs[0], "package main\n", "package main\n\nvar _ int = \"\"\n", 1)); err == nil {
		t.Errorf("a program that does not compile was not noticed: %s", out)
	}
}

var goBlock = regexp.MustCompile("(?s)\n```go\n(.*?)\n```\n")

// vet compiles a program in place of the consumer, whose file stays as it is.
func vet(t *testing.T, program string) (output []byte, err error) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "consumer", "main.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{file: []byte(program), overlay: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-overlay", overlay, "./consumer")
	cmd.Dir = root
	return cmd.CombinedOutput()
}

// A document that names a line of code as `directory/file.go:Name` names one that is there: a function, a method, a type, a
// constant or a variable. A method is Type.Name.
func TestDocuments_NamedCodeIsThere(t *testing.T) {
	named := 0
	for _, page := range pages(t) {
		found, wrong := namedCode(t, testenv.Read(t, page))
		named += found
		for _, name := range wrong {
			t.Errorf("%s names %s, which is not there", page, name)
		}
	}
	if named < 20 {
		t.Errorf("only %d names were found", named)
	}
}

func TestDocuments_NamedCodeThatIsGoneIsNoticed(t *testing.T) {
	for _, text := range []string{
		"`shared/keyfile/keyfile.go:Formats`", "`shared/keyfile/keyfile.go:Format`", "`shared/keyfile/keyfile.go:Format.Encode`",
		"`sidecar/internal/config/settings.go:keyParameter`",
	} {
		if found, wrong := namedCode(t, text); found != 1 || wrong != nil {
			t.Errorf("%s was not found", text)
		}
	}
	for _, text := range []string{"`shared/keyfile/keyfile.go:Formatting`", "`shared/keyfile/gone.go:Format`", "`shared/keyfile/keyfile.go:Key.Encode`"} {
		if _, wrong := namedCode(t, text); wrong == nil {
			t.Errorf("%s: not noticed", text)
		}
	}
}

var codeName = regexp.MustCompile("`([a-z][a-z0-9_/]*\\.go):(?:([A-Za-z]+)\\.)?([A-Za-z]+)`")

func namedCode(t *testing.T, text string) (found int, wrong []string) {
	t.Helper()
	for _, m := range codeName.FindAllStringSubmatch(text, -1) {
		found++
		declaration := `(?m)^(func|type|var|const|\t) ?` + m[3] + `\b`
		if m[2] != "" {
			declaration = `(?m)^func \(\w+ \*?` + m[2] + `(\[\w+\])?\) ` + m[3] + `\b`
		}
		source, err := os.ReadFile(filepath.Join("../../..", m[1]))
		if err != nil || !regexp.MustCompile(declaration).Match(bytes.ReplaceAll(source, []byte("\r"), nil)) {
			wrong = append(wrong, m[0])
		}
	}
	return found, wrong
}

// What the documentation copies out of the sidecar's image, the Dockerfile puts there.
func TestTheImageHasWhatTheDocumentationCopies(t *testing.T) {
	dockerfile := testenv.Read(t, "../../../Dockerfile")
	if !strings.Contains(dockerfile, "FROM scratch AS sidecar\nCOPY --from=build-sidecar /image/sidecar/ /\n") {
		t.Error("the sidecar's image is not what is in /image/sidecar")
	}
	copied := copyFrom.FindAllStringSubmatch(testenv.Read(t, "../../../docs/exec.md"), -1)
	if len(copied) != 2 {
		t.Errorf("%d lines copy from the image, want the binary and the certificates", len(copied))
	}
	for _, m := range copied {
		whole, directory := " /image/sidecar"+m[1]+" ", " /image/sidecar"+path.Dir(m[1])+"/ "
		if !strings.Contains(dockerfile, whole) && !strings.Contains(dockerfile, directory) {
			t.Errorf("nothing puts %s into the image", m[1])
		}
	}
}

// The kernel shows environment and memory of a process to others of its user if that user may read its program.
func TestDockerfile_ProgramsWithSecretsCannotBeRead(t *testing.T) {
	dockerfile := testenv.Read(t, "../../../Dockerfile")
	for _, program := range []string{"/image/sidecar/sidecar", "/image/consumer/consumer"} {
		if !strings.Contains(dockerfile, program+" \\\n\t&& chmod 0111 "+program+" \\\n") {
			t.Errorf("%s is not made with mode 0111", program)
		}
	}
	for line := range strings.Lines(dockerfile) {
		if strings.HasPrefix(line, "COPY --from=build-") && strings.Contains(line, "--ch") {
			t.Errorf("the programs are root's, and keep their mode: %s", line)
		}
	}
}

var copyFrom = regexp.MustCompile(`(?m)^COPY --from=\S+/snowkey-sidecar@sha256:DIGEST (\S+) \S+$`)

// What a page links to in the repository exists.
func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(testenv.Read(t, page), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			checked++
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && filepath.Ext(file) == ".md" && !slices.Contains(anchors(testenv.Read(t, file)), anchor) {
				t.Errorf("%s links to %s, a heading that is not there", page, m[1])
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d links were found", checked)
	}
}

// Each page of docs answers a question in its index.
func TestIndex_HasEveryPage(t *testing.T) {
	index := read(t, "../../../docs/README.md")
	for _, page := range pages(t) {
		dir, name := filepath.Split(page)
		if dir == "../../../docs/" && name != "README.md" && !strings.Contains(index, "("+name) {
			t.Errorf("docs/README.md has no question that %s answers", name)
		}
	}
	decisions := read(t, "../../../docs/decisions/README.md")
	for _, page := range pages(t) {
		dir, name := filepath.Split(page)
		if dir == "../../../docs/decisions/" && name != "README.md" && !strings.Contains(decisions, "("+name+")") {
			t.Errorf("docs/decisions/README.md lacks %s", name)
		}
	}
}

var (
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noAnchor  = regexp.MustCompile(`[^\pL\pN _-]`)
	linkLabel = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors are those that GitHub makes of a page's headings, as far as no two are the same.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		plain := noAnchor.ReplaceAllString(linkLabel.ReplaceAllString(m[1], "$1"), "")
		all = append(all, strings.ReplaceAll(strings.ToLower(plain), " ", "-"))
	}
	return all
}

func TestLinksLeadSomewhere_AnchorsAreGitHubs(t *testing.T) {
	text := "## exec: in the application's own container\n# `--serve`, and [more](x.md)\n### refresh.sock\n"
	want := []string{"exec-in-the-applications-own-container", "--serve-and-more", "refreshsock"}
	if got := anchors(text); !slices.Equal(got, want) {
		t.Errorf("anchors %q, want %q", got, want)
	}
}

// pages are the documents.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../../../*.md", "../../../docs/*.md", "../../../docs/decisions/*.md", "../../../examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
