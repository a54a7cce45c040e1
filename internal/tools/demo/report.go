package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
)

// report prints the table and judges it.
func report(r process.Counts, first, second pair, took time.Duration, afterRemoval int) error {
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, row := range [][2]any{
		{"queries", r.OwnQueries},
		{"failed", max(r.Failed, r.OwnFailed)},
		{"key before", first.fingerprint},
		{"key after", r.Key},
		{"from the parameter's change to the first query on the new key", took.Round(time.Millisecond)},
		{"queries since the old public key was removed", afterRemoval},
	} {
		fmt.Fprintf(table, "  %v\t%v\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var wrong []error
	check := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, errors.New(text))
		}
	}
	check(r.Stopped, "the consumer did not stop in good order")
	check(r.Failed == 0 && r.OwnFailed == 0, "queries failed")
	check(r.Key == second.fingerprint, "the last query was not on the new key")
	check(r.Answered > 0 && r.OwnQueries-r.Answered <= 4, "queries without an answer") // 4 workers may be cut off at the end
	check(afterRemoval > 0, "no query after the old key was removed")
	check(took < 10*interval, "the new key took too long")
	return errors.Join(wrong...)
}
