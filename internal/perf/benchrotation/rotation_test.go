package main

import (
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// What the table shows at length, for as long as a test may take.
func TestRotation_FailsNoQuery(t *testing.T) {
	testenv.Slow(t)
	t.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
	silenceDriver()
	s := setup{workers: 4, login: 50 * time.Millisecond, query: 5 * time.Millisecond, phase: 500 * time.Millisecond}
	r, err := measure(s, scenarios[0], ourPool)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.failed(); n > 0 {
		t.Errorf("%d queries failed", n)
	}
	for p, sample := range r {
		if len(sample.took) == 0 {
			t.Errorf("no query in phase %d", p)
		}
	}
}
