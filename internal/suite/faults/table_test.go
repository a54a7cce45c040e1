//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

// checkTable compares the table with the scenarios, or writes it once every row has passed. What was measured
// is not in it, only its limit, so that no two runs differ.
func checkTable(t *testing.T, passed []bool) {
	t.Helper()
	const page, name = "../../../docs/operations.md", "faults"
	if *write {
		if slices.Contains(passed, false) || *changes < manyTimes || *kills < manyKills {
			t.Fatal("the table is not written: not every row has passed as it stands there")
		}
		if err := doctable.Write(page, name, table()); err != nil {
			t.Fatal(err)
		}
	}
	if err := doctable.Compare(page, name, table()); err != nil {
		t.Errorf("%v than the scenarios: run make test-faults-table", err)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| what breaks | consumers see | the operator sees | recovery within | outcome |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range scenarios {
		var seen []string
		if s.class != "" {
			seen = append(seen, fmt.Sprintf("`%s`: %s", s.class, s.says))
		}
		if s.operator != "" {
			seen = append(seen, s.operator)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			s.fault, cmp.Or(s.consumer, "nothing"), cmp.Or(strings.Join(seen, "; "), "nothing"), s.within, cmp.Or(s.lost, "nothing lost"))
	}
	return b.String()
}
