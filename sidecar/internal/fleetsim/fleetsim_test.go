package fleetsim

import (
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// A fleet of 10,000 at a fraction of its size and of its limit, as long as a test may take.
func TestFleet_StaysJustBelowTheLimit(t *testing.T) {
	testenv.Heavy(t)
	run(t, 2.4, func(f *fleet) {
		r := life{size: 600, limit: 2.4, settle: 3 * time.Hour, recover: 10 * time.Minute}.run(f)
		r.check(t)
		for name, value := range r.short() {
			t.Log(name, value)
		}
	})
}

// check holds the figures to the goals.
func (r *figures) check(t *testing.T) {
	for what, bad := range map[string]bool{
		"a task has no first key":                           len(r.cold.first) != r.size,
		"first keys take much longer than the limit allows": r.cold.first.quantile(.5) > r.cold.least || r.cold.first.quantile(.99) > r.cold.least*3/2,
		"waiting tasks starve others":                       r.cold.others > 0.6+3*r.cold.othersError,
		"one percent is throttled in the steady state":      r.steady.share > 0.01 || r.steady.others > 0.01,
		"refreshes come together in the steady state":       r.steady.apart > 1.2 || r.steady.together > 1.5,
		"a task does not follow a rotation":                 len(r.rotation.followed) < r.size-r.size/10_000,
		"a starting task waits":                             len(r.starting.first) != r.size/20 || r.starting.first.quantile(.5) > 5*time.Second || r.starting.first.quantile(.99) > time.Minute,
		"a stampede after the outage":                       r.outage.peak > 3*r.limit+float64(r.size)/50/15, // each of those that wait asks each 15 s
		"a task that started in the outage waits":           len(r.outage.first) != r.size/50,
		"a cut limit is not followed":                       r.cut.share[1] > r.cut.share[0] || r.cut.intervals.mean() < 3*r.steady.intervals.mean()/2,
	} {
		if bad {
			t.Errorf("%s: %+v", what, r.short())
		}
	}
}

// short is without all the times.
func (r *figures) short() map[string]any {
	q := func(t times) [5]time.Duration {
		return [5]time.Duration{time.Duration(len(t)), t.mean(), t.quantile(.5), t.quantile(.99), t.quantile(1)}
	}
	return map[string]any{
		"cold": q(r.cold.first), "least": r.cold.least, "others": r.cold.others, "peak": r.cold.peak,
		"steady": []float64{r.steady.rate, r.steady.share, r.steady.others, r.steady.apart, r.steady.together}, "intervals": q(r.steady.intervals),
		"rotation": q(r.rotation.followed), "rotation share": r.rotation.share,
		"starting": q(r.starting.first), "overtaken": r.starting.overtaken,
		"outage peak": r.outage.peak, "outage share": r.outage.share, "outage first": q(r.outage.first),
		"cut": r.cut.share, "cut intervals": q(r.cut.intervals), "cut back": r.cut.back, "share after": r.cut.share24,
		"push spread": q(r.push.spread), "push at once": q(r.push.atOnce),
	}
}

// Containers that are started over and over, each minute: a refresh at each start would be four times the limit.
func TestFleet_RestartLoopIsNoStorm(t *testing.T) {
	testenv.Heavy(t)
	run(t, 1.2, func(f *fleet) {
		for range 300 {
			f.running.Go(func() { f.restart(&memory{}, time.Minute) })
		}
		time.Sleep(10 * time.Minute)
		c := f.after(20 * time.Minute)
		if share, _ := c.share(); c.rate() > 2*f.limit || share > 0.5 {
			t.Errorf("%.1f calls a second, %.0f%% throttled", c.rate(), 100*share)
		}
	})
}
