package checks

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the examples into the documentation")

// The README shows the task definition that stands in examples: go test ./internal/checks -update
func TestREADMEShowsTheTaskDefinition(t *testing.T) {
	const begin, end = "<!-- fargate.json -->\n```json\n", "```\n<!-- end of fargate.json -->"
	example := read(t, "../../examples/taskdef/fargate.json")
	readme := read(t, "../../README.md")
	head, rest, ok := strings.Cut(readme, begin)
	shown, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("README.md has no place for the task definition")
	}
	if *update {
		if err := os.WriteFile("../../README.md", []byte(head+begin+example+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != example {
		t.Error("the task definition in README.md is not examples/taskdef/fargate.json: run go test ./internal/checks -update")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
