//go:build clients

package clients

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	matrixPage  = "../../docs/clients.md"
	beginMatrix = "<!-- clients: made by make test-clients-table -->\n"
	endMatrix   = "<!-- end of clients -->"
)

// checkMatrix compares the outcomes with the document, or writes them into it if they are of every row. Of a line that not
// all rows ran for, it says nothing.
func checkMatrix(t *testing.T, outcomes []outcome, everyRow bool) {
	t.Helper()
	data, err := os.ReadFile(matrixPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), beginMatrix)
	shown, tail, ok2 := strings.Cut(rest, endMatrix)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the matrix", matrixPage)
	}
	lines := matrixLines(outcomes)
	if *write {
		if !everyRow {
			t.Fatal("the matrix is not written: it needs -all, and every row to pass")
		}
		if err := os.WriteFile(matrixPage, []byte(head+beginMatrix+strings.Join(lines, "")+endMatrix+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if everyRow && shown != strings.Join(lines, "") {
		t.Errorf("the matrix in %s is not what this run has shown: run make test-clients-table", matrixPage)
		return
	}
	for _, line := range lines {
		if !t.Failed() && !strings.Contains(shown, line) {
			t.Errorf("%s does not have what this run has shown: run make test-clients-table\n%s", matrixPage, line)
		}
	}
}

// matrixLines has a line for each version of a client, below two lines of head.
func matrixLines(outcomes []outcome) []string {
	lines := []string{"| client | version | by name | by path | in a rotation |\n", "| --- | --- | --- | --- | --- |\n"}
	for len(outcomes) > 0 {
		first := outcomes[0]
		var others []outcome
		cells := map[by][]string{}
		var rotation []string
		for _, o := range outcomes {
			if o.client != first.client || o.version != first.version {
				others = append(others, o)
				continue
			}
			cells[o.by] = appendNew(cells[o.by], o.how)
			rotation = appendNew(rotation, o.rotation)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s |\n", first.client, first.version,
			cmp.Or(strings.Join(cells[byName], "; "), "no"), cmp.Or(strings.Join(cells[byPath], "; "), "no"), strings.Join(rotation, "; ")))
		outcomes = others
	}
	return lines
}

func appendNew(texts []string, text string) []string {
	if text == "" || slices.Contains(texts, text) {
		return texts
	}
	return append(texts, text)
}
