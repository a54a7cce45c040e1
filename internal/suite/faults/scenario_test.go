//go:build faults

package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// A scenario is one thing that breaks, and a row of the table.
type scenario struct {
	fault       string
	consumer    string                // what it sees; nothing if empty
	class       keyfile.ErrorClass    // of the refresh that fails; none if empty
	says        string                // is in the line of that refresh
	operator    string                // what the operator sees beside that, or instead
	unsaid      bool                  // status.json cannot be written while it lasts
	queryErrors string                // of those queries that may fail; none may if empty
	lost        string                // nothing if empty
	answers     int                   // as many as there may be while Snowflake is away
	within      time.Duration         // how long recovery may take from the end of the fault on
	prepare     func(*fixture)        // before anything runs; may be nil
	breaks      func(*fixture) func() // breaks it, and gives what heals it
	run         func(*fixture, scenario) (recovery time.Duration)
}

var scenarios = slices.Concat(ssmScenarios, credentialsScenarios, snowflakeScenarios, volumeScenarios, clockScenarios, processScenarios, loadScenarios)

func TestFaults(t *testing.T) {
	passed := make([]bool, len(scenarios))
	t.Run("rows", func(t *testing.T) {
		for i, s := range scenarios {
			t.Run(s.fault, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				if s.prepare != nil {
					s.prepare(f)
				}
				run := s.run
				if run == nil {
					run = outage
				}
				took := run(f, s)
				if took > s.within {
					t.Errorf("recovery took %v, more than %v", took, s.within)
				}
				f.nothingLost(s.queryErrors)
				t.Logf("recovered after %v; %d answers, %d reads", took.Round(time.Millisecond), f.answers(), f.readers.reads.Load())
				passed[i] = !t.Failed() && !t.Skipped()
			})
		}
	})
	checkTable(t, passed)
}

// outage is how most things break: a new key is stored while refreshes fail, and is published when they succeed
// any more.
func outage(f *fixture, s scenario) time.Duration {
	f.begin()
	since := f.sidecar.Mark()
	heal := s.breaks(f)
	f.rotate()
	f.fails(since, s.class, s.says, !s.unsaid)
	f.queriesGoOn()
	if f.onDisk(keyfile.DER) || f.onDisk(keyfile.PEM) {
		f.t.Error("the new key is on disk, although refreshes fail")
	}
	queries := f.consumer.Mark()
	heal()
	took := f.published()
	f.adopted(queries)
	testenv.Eventually(f.t, "the sidecar says that it has recovered", func() bool { return f.sidecar.Said(since, `"recovered"`) })
	return took
}

// queriesGoOn waits for some more answers.
func (f *fixture) queriesGoOn() {
	f.t.Helper()
	before := f.answers()
	testenv.Eventually(f.t, "queries are answered", func() bool { return f.answers() > before+10 })
}

// quiet makes sure that no refresh has failed since the mark.
func (f *fixture) quiet(since process.Mark) {
	f.t.Helper()
	if f.sidecar.Said(since, "refresh failed") {
		f.t.Error("a refresh failed, and none should have")
	}
}
