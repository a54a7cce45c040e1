//go:build fleetsim

package fleetsim

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var write = flag.Bool("write", false, "write tables and plots into docs")

const docs = "../../../docs/"

// What docs/performance.md says of fleets.
func TestFleets(t *testing.T) {
	debug.SetGCPercent(300) // most of the memory is stacks, which every collection scans
	lives := []life{
		{size: 10_000, limit: 40, settle: 30 * time.Hour, recover: 48 * time.Hour, pushes: true},
		{size: 100_000, limit: 40, settle: 18 * time.Hour, recover: 3 * time.Hour, pushes: true},
	}
	all := make([]*figures, len(lives))
	t.Cleanup(func() {
		if *write && all[0] != nil && all[1] != nil {
			document(t, all)
		}
	})
	for i, l := range lives {
		t.Run(fmt.Sprint(l.size), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			run(t, l.limit, func(f *fleet) { all[i] = l.run(f) })
			r := all[i]
			for name, value := range r.short() {
				t.Log(name, value)
			}
			t.Logf("%d calls in %v", r.calls.sum().fleet, time.Since(began).Round(time.Second))
			r.check(t)
		})
	}
}

func document(t *testing.T, all []*figures) {
	for _, r := range all {
		p := plot{
			title: fmt.Sprintf("%d tasks, --interval 5m", r.size),
			calls: r.calls, marks: r.marks,
			limit: func(at time.Duration) float64 {
				if at >= r.cuts[0] && at < r.cuts[1] {
					return r.limit / 10
				}
				return r.limit
			},
		}
		if err := p.write(docs + r.plotName()); err != nil {
			t.Fatal(err)
		}
	}
	replace(t, "fleetsim", table(all))
	replace(t, "fleet-costs", costs(all))
}

func (r *figures) plotName() string { return fmt.Sprintf("fleet-%d.svg", r.size) }

// replace puts text between the marks of a name in docs/performance.md.
func replace(t *testing.T, name, text string) {
	t.Helper()
	const path = docs + "performance.md"
	begin, end := "<!-- "+name+": made by make fleetsim -->\n", "<!-- end of "+name+" -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for %s", path, name)
	}
	if err := os.WriteFile(path, []byte(head+begin+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func table(all []*figures) string {
	var b strings.Builder
	row := func(what string, of func(*figures) string) {
		b.WriteString("| " + what)
		for _, r := range all {
			b.WriteString(" | " + of(r))
		}
		b.WriteString(" |\n")
	}
	row("", func(r *figures) string { return fmt.Sprintf("%d tasks", r.size) })
	row("---", func(*figures) string { return "---" })
	row("**All start at once**: the limit allows for all keys", func(r *figures) string { return span(r.cold.least) })
	row("time to the first key, p50, p99, last", func(r *figures) string { return quantiles(r.cold.first) })
	row("throttled of the others' calls, until p99", func(r *figures) string { return percent(r.cold.others) })
	row("**Steady state**, six hours from", func(r *figures) string { return span(r.settle) })
	row("calls a second", func(r *figures) string { return fmt.Sprintf("%.1f", r.steady.rate) })
	row("throttled of the fleet's calls, of the others'", func(r *figures) string {
		return percent(r.steady.share) + ", " + percent(r.steady.others)
	})
	row("variance of calls as a share of the mean, in windows of 1 s, 30 s (at random: 1)", func(r *figures) string {
		return fmt.Sprintf("%.2f, %.2f", r.steady.apart, r.steady.together)
	})
	row("interval, p50, p99, longest", func(r *figures) string { return quantiles(r.steady.intervals) })
	row("**Rotation**: time to the new key, p50, p99, last", func(r *figures) string { return quantiles(r.rotation.followed) })
	row("throttled of the fleet's calls until then", func(r *figures) string { return percent(r.rotation.share) })
	row("**A twentieth more tasks start**, 20 a second: time to the first key, p50, p99, last", func(r *figures) string {
		return quantiles(r.starting.first)
	})
	row("pairs of these tasks of which the later one was first", func(r *figures) string { return percent(r.starting.overtaken) })
	row("**SSM away for two hours**: highest rate of a minute in the hour after", func(r *figures) string {
		return fmt.Sprintf("%.0f a second", r.outage.peak)
	})
	row("throttled of the fleet's calls in that hour", func(r *figures) string { return percent(r.outage.share) })
	row("time from the end to the first key of tasks that started meanwhile, p50, p99, last", func(r *figures) string {
		return quantiles(r.outage.first)
	})
	row("**A tenth of the limit for two hours**: throttled in the first hour, in the second", func(r *figures) string {
		return percent(r.cut.share[0]) + ", " + percent(r.cut.share[1])
	})
	row("interval at the end, p50, p99, longest", func(r *figures) string { return quantiles(r.cut.intervals) })
	row("time from then until the mean interval is within a quarter of what it was", func(r *figures) string {
		if r.cut.back >= r.recover {
			return "more than " + span(r.recover)
		}
		return span(r.cut.back)
	})
	row("**A rotation that tasks are told of**, half as fast as the limit allows: p50, p99, last", func(r *figures) string { return quantiles(r.push.spread) })
	row("all at once: p50, p99, last", func(r *figures) string { return quantiles(r.push.atOnce) })
	b.WriteString("\n")
	for _, r := range all {
		fmt.Fprintf(&b, "![Calls a second of %d tasks](%s)\n\n", r.size, r.plotName())
	}
	return b.String()
}

// Prices in US dollars, as docs/performance.md cites them.
const (
	kmsPrice        = 0.03 / 10_000
	throughputPrice = 0.05 / 10_000 // a name, with higher throughput
	queuePrice      = 0.40 / 1_000_000
	month           = 30 * 24 * time.Hour
	namesPerLook    = 2 // key and passphrase
)

// costs of a month in which every task starts once and the key is rotated once. Fleets for which there is no room
// below the limit refresh as often as the simulation found.
func costs(all []*figures) string {
	var b strings.Builder
	b.WriteString("| tasks | interval | calls a second | calls of a task in an hour | SSM, a month | KMS, a month | with higher throughput, a month | a queue for each task, a month |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, n := range []int{100, 1_000, 10_000, 100_000} {
		rate, every := float64(n)/interval.Seconds(), interval
		for _, r := range all {
			if r.size == n {
				rate = r.steady.rate
				every = time.Duration(float64(n) / rate * float64(time.Second))
			}
		}
		tasks, seconds := float64(n), month.Seconds()
		fmt.Fprintf(&b, "| %d | %s | %.2f | %.1f | $0 | $%.2f | $%.0f | $%.0f |\n", n, span(every), rate, rate*3600/tasks,
			tasks*2*namesPerLook*kmsPrice,
			tasks/interval.Seconds()*seconds*namesPerLook*throughputPrice,
			tasks*seconds/20*queuePrice)
	}
	return b.String()
}

func percent(share float64) string { return fmt.Sprintf("%.2g %%", 100*share) }

func quantiles(t times) string {
	return span(t.quantile(.5)) + ", " + span(t.quantile(.99)) + ", " + span(t.quantile(1))
}

// span is a time as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "at once"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 3*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}
