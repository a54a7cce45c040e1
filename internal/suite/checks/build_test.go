package checks

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// A plain go build of the sidecar leaves copies of the key in memory. Each instruction and script that builds it has
// the experiment that erases them.
func TestBuildInstructions_EraseMemory(t *testing.T) {
	instructions := 0
	for _, path := range documents(t) {
		found, plain := builds(testenv.Read(t, path))
		instructions += found
		for _, line := range plain {
			t.Errorf("%s: set GOEXPERIMENT=runtimesecret in %s", path, line)
		}
	}
	if instructions < 4 {
		t.Errorf("only %d instructions were found", instructions)
	}
}

func TestBuildInstructions_PlainBuildIsNoticed(t *testing.T) {
	for _, line := range []string{
		"$ go build -o bin/ ./sidecar",
		"    go install github.com/snowkey/snowkey/sidecar@latest",
		"Run `go run ./sidecar doctor`.",
		"RUN CGO_ENABLED=0 go build -trimpath \\\n\t-o /out/ ./consumer ./sidecar",
		"CGO_ENABLED=0 GOEXPERIMENT= go build -o \"$work/\" ./sidecar",
	} {
		if _, plain := builds(line); len(plain) != 1 {
			t.Errorf("not noticed: %s", line)
		}
	}
	for _, line := range []string{
		"$ GOEXPERIMENT=runtimesecret go build -o bin/ ./sidecar",
		"go build ./consumer",
		"go test ./sidecar/internal/config",
		"go build -o bin/ ./sidecar/internal/x",
	} {
		if _, plain := builds(line); plain != nil {
			t.Errorf("refused: %s", line)
		}
	}
}

var buildsSidecar = regexp.MustCompile("\\bgo (build|run|install)\\b.*[ /](\\./|snowkey/)sidecar($|[ @`\"'),.])")

// builds counts the lines that build the sidecar, and returns those that do it without erasing memory.
func builds(text string) (found int, plain []string) {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if !buildsSidecar.MatchString(line) {
			continue
		}
		found++
		if !strings.Contains(line, "GOEXPERIMENT=runtimesecret") {
			plain = append(plain, line)
		}
	}
	return found, plain
}

// documents are all files of the repository that tell a person or a machine how to build, tests left out.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	kinds := []string{".md", ".sh", ".go", ".yml", ".yaml", ".json", ".txt", ""}
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if slices.Contains([]string{".git", ".cache", "bin", "dist", "node_modules", "target", "testdata"}, name) {
				return fs.SkipDir
			}
			return nil
		}
		if slices.Contains(kinds, filepath.Ext(name)) && !strings.HasSuffix(name, "_test.go") && d.Type().IsRegular() {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
