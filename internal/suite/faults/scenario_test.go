//go:build faults

package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A scenario is one thing that breaks, and a row of the table.
type scenario struct {
	fault       string
	consumer    string              // what it sees; nothing if empty
	class       keyfile.ErrorClass  // of the refresh that fails; none if empty
	says        string              // is in the line of that refresh
	operator    string              // what the operator sees beside that, or instead
	unsaid      bool                // status.json cannot be written while it lasts
	queryErrors string              // of those queries that may fail; none may if empty
	lost        string              // nothing if empty
	answers     int                 // as many as there may be while Snowflake is away
	within      time.Duration       // how long recovery may take from the end of the fault on
	prepare     func(*world)        // before anything runs; may be nil
	breaks      func(*world) func() // breaks it, and gives what heals it
	run         func(*world, scenario) (recovery time.Duration)
}

var scenarios = slices.Concat(ssmScenarios, credentialsScenarios, snowflakeScenarios, volumeScenarios, clockScenarios, processScenarios, loadScenarios)

func TestFaults(t *testing.T) {
	passed := make([]bool, len(scenarios))
	t.Run("rows", func(t *testing.T) {
		for i, s := range scenarios {
			t.Run(s.fault, func(t *testing.T) {
				t.Parallel()
				s.test(t)
				passed[i] = !t.Failed() && !t.Skipped()
			})
		}
	})
	checkTable(t, passed)
}

func (s scenario) test(t *testing.T) {
	w := newWorld(t)
	if s.prepare != nil {
		s.prepare(w)
	}
	run := s.run
	if run == nil {
		run = outage
	}
	took := run(w, s)
	if took > s.within {
		t.Errorf("recovery took %v, more than %v", took, s.within)
	}
	w.nothingLost(s.queryErrors)
	t.Logf("recovered after %v; %d answers, %d reads", took.Round(time.Millisecond), w.answers(), w.readers.reads.Load())
}

// outage is how most things break: a new key is stored while refreshes fail, and is published when they succeed
// any more.
func outage(w *world, s scenario) time.Duration {
	w.begin()
	since := w.sidecar.mark()
	heal := s.breaks(w)
	w.rotate()
	w.fails(since, s.class, s.says, !s.unsaid)
	w.queriesGoOn()
	if w.onDisk(keyfile.DER) || w.onDisk(keyfile.PEM) {
		w.t.Error("the new key is on disk, although refreshes fail")
	}
	queries := w.consumer.mark()
	heal()
	took := w.published()
	w.adopted(queries)
	eventually(w.t, "the sidecar says that it has recovered", func() bool { return w.sidecar.said(since, `"recovered"`) })
	return took
}

// queriesGoOn waits for some more answers.
func (w *world) queriesGoOn() {
	w.t.Helper()
	before := w.answers()
	eventually(w.t, "queries are answered", func() bool { return w.answers() > before+10 })
}

// quiet makes sure that no refresh has failed since the mark.
func (w *world) quiet(since mark) {
	w.t.Helper()
	if w.sidecar.said(since, "refresh failed") {
		w.t.Error("a refresh failed, and none should have")
	}
}
