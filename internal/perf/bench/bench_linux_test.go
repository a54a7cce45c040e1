package main

import (
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// What `make bench` does at length, for as long as a test may take: the ratios are not checked, since a busy
// machine has others, but what can be counted is.
func TestBench(t *testing.T) {
	testenv.Heavy(t)
	w, stop, err := newFixture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	all := w.contestants("", "")
	if err := w.race(t.Context(), all, 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if len(c.starts) != 2 || c.median(wall) <= 0 || c.median(processor) <= 0 || c.median(peak) < mebibyte {
			t.Errorf("%s: %+v", c.name, c.starts)
		}
	}
	for _, call := range w.ssm.Calls() {
		if !call.WithDecryption || len(call.Names) != 2 {
			t.Errorf("a start called %+v", call)
		}
	}
	if n := len(w.ssm.Calls()); n != 2*len(all) {
		t.Errorf("%d starts made %d calls", 2*len(all), n)
	}
	table, err := startTable(all)
	if err != nil || !strings.Contains(table, "| the floor | 1.00 | 1.00 |") {
		t.Errorf("%v\n%s", err, table)
	}

	idle, err := w.idle(t.Context(), 0, time.Second)
	if err != nil || idle.all < mebibyte || idle.own < mebibyte || !strings.Contains(idle.table(), "an hour") {
		t.Errorf("%v, %+v", err, idle)
	}
	const names, calls = 20, 2
	p, err := w.poll(t.Context(), names, 2)
	if err != nil || p.calls != calls*p.refreshes || p.decrypts != 0 {
		t.Errorf("%v; %d names: %d refreshes made %d calls of SSM and %d of KMS", err, names, p.refreshes, p.calls, p.decrypts)
	}
}
