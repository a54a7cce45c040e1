//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	page  = "../../../docs/operations.md"
	begin = "<!-- faults: made by make test-faults-table -->\n"
	end   = "<!-- end of faults -->"
)

// checkTable compares the table with the scenarios, or writes it once every row has passed. What was measured
// is not in it, only its limit, so that no two runs differ.
func checkTable(t *testing.T, passed []bool) {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	shown, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	want := table()
	if !*write {
		if shown != want {
			t.Errorf("the table in %s is not what the scenarios say: run make test-faults-table", page)
		}
		return
	}
	if slices.Contains(passed, false) || *changes < manyTimes || *kills < manyKills {
		t.Fatal("the table is not written: not every row has passed as it stands there")
	}
	if err := os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| what breaks | consumers see | the operator sees | recovery within | outcome |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range scenarios {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			s.fault, cmp.Or(s.consumer, "nothing"), s.operatorSees(), s.within, cmp.Or(s.lost, "nothing lost"))
	}
	return b.String()
}

func (s scenario) operatorSees() string {
	var seen []string
	if s.class != "" {
		seen = append(seen, fmt.Sprintf("`%s`: %s", s.class, s.says))
	}
	if s.operator != "" {
		seen = append(seen, s.operator)
	}
	return cmp.Or(strings.Join(seen, "; "), "nothing")
}
