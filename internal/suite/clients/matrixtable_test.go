//go:build clients

package clients

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

const matrixPage = "../../../docs/clients.md"

// checkMatrix compares the outcomes with the document, or writes them into it if every row has one. It says nothing of a
// version of which only some rows ran.
func checkMatrix(t *testing.T, outcomes []outcome) {
	t.Helper()
	everyRow := len(outcomes) == len(matrix)
	whole := slices.DeleteFunc(slices.Clone(outcomes), func(o outcome) bool { return !o.complete(outcomes) })
	const name = "clients"
	shown, err := doctable.Read(matrixPage, name)
	if err != nil {
		t.Fatal(err)
	}
	lines := matrixLines(whole)
	if *write {
		if !everyRow {
			t.Fatal("the matrix is not written: a row did not run; use -rows all, and install cargo")
		}
		if err := doctable.Write(matrixPage, name, strings.Join(lines, "")); err != nil {
			t.Fatal(err)
		}
		return
	}
	wantVersions(t, shown)
	if everyRow && shown != strings.Join(lines, "") {
		t.Errorf("the matrix in %s is not what this run has shown: run make test-clients-table", matrixPage)
		return
	}
	for _, line := range lines {
		if !strings.Contains(shown, line) {
			t.Errorf("%s does not have what this run has shown: run make test-clients-table\n%s", matrixPage, line)
		}
	}
}

// wantVersions compares the clients and versions that the document shows with those of the matrix, also of rows that did not
// run.
func wantVersions(t *testing.T, shown string) {
	t.Helper()
	var documented, tested []string
	for line := range strings.Lines(shown) {
		cells := strings.Split(line, " | ")
		documented = appendNew(documented, strings.TrimPrefix(strings.Join(cells[:min(2, len(cells))], " "), "| "))
	}
	for _, r := range matrix {
		tested = appendNew(tested, r.client+" "+r.version(t))
	}
	for _, line := range documented[min(2, len(documented)):] { // below the head
		if !slices.Contains(tested, line) {
			t.Errorf("%s shows %s, which no row tests: run make test-clients-table", matrixPage, line)
		}
	}
	for _, line := range tested {
		if !slices.Contains(documented, line) {
			t.Errorf("%s does not show %s: run make test-clients-table", matrixPage, line)
		}
	}
}

// complete tells whether the outcomes have every row of the client in its version.
func (o outcome) complete(outcomes []outcome) bool {
	rows, seen := 0, 0
	for _, r := range matrix {
		if r.client == o.client && r.directory == o.directory {
			rows++
		}
	}
	for _, other := range outcomes {
		if other.client == o.client && other.directory == o.directory {
			seen++
		}
	}
	return seen == rows
}

// matrixLines has a line for each version of a client, below two lines of head.
func matrixLines(outcomes []outcome) []string {
	lines := []string{"| client | version | by name | by path | from a socket | in a rotation |\n", "| --- | --- | --- | --- | --- | --- |\n"}
	for len(outcomes) > 0 {
		first := outcomes[0]
		var same, others []outcome
		for _, o := range outcomes {
			if o.client == first.client && o.version == first.version {
				same = append(same, o)
			} else {
				others = append(others, o)
			}
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n",
			first.client, first.version, cell(same, byName), cell(same, byPath), cell(same, fromSocket), inRotation(same)))
		outcomes = others
	}
	return lines
}

// cell is what a user writes to connect in this way.
func cell(outcomes []outcome, by by) string {
	var hows []string
	for _, o := range outcomes {
		if o.by == by && !o.keepsKey {
			hows = appendNew(hows, o.how)
		}
	}
	return cmp.Or(strings.Join(hows, "; "), "no")
}

// inRotation leaves out what ends at once if there are programs that go on.
func inRotation(outcomes []outcome) string {
	var goOn, atOnce, keep []string
	for _, o := range outcomes {
		switch {
		case o.keepsKey:
			keep = appendNew(keep, o.rotation)
		case o.oneShot:
			atOnce = appendNew(atOnce, o.rotation)
		default:
			goOn = appendNew(goOn, o.rotation)
		}
	}
	if len(goOn) == 0 {
		goOn = atOnce
	}
	return strings.Join(append(goOn, keep...), "; ")
}

func appendNew(texts []string, text string) []string {
	if text == "" || slices.Contains(texts, text) {
		return texts
	}
	return append(texts, text)
}
