package rotate

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/rotation.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstCells are the names in the first column of the table under a heading.
func firstCells(t *testing.T, text, heading string) []string {
	t.Helper()
	_, section, ok := strings.Cut(text, heading)
	if !ok {
		t.Fatalf("the document has no %q", heading)
	}
	var names []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "#") {
			break
		}
		if m := regexp.MustCompile("^\\| `([a-z_-]+)` \\|").FindStringSubmatch(line); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

func TestDocument_HasEveryFieldOfTheSummary(t *testing.T) {
	var fields []string
	for i := range reflect.TypeFor[Result]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[Result]().Field(i).Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	if got := firstCells(t, document(t), "### The summary"); !slices.Equal(got, fields) {
		t.Errorf("the document has %v, the summary %v", got, fields)
	}
}

func TestDocument_HasEveryResult(t *testing.T) {
	all := []Outcome{Rotated, Published, Finished, Waiting, Withdrawn, Overtaken, Young, Nothing, DryRun, Refused, Failed}
	var want []string
	for _, o := range all {
		want = append(want, string(o))
	}
	if got := firstCells(t, document(t), "### The results"); !slices.Equal(got, want) {
		t.Errorf("the document has %v, there are %v", got, want)
	}
}
