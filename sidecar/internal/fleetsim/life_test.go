package fleetsim

import (
	"math"
	"time"
)

// A life is what happens to one fleet, one thing after the other.
type life struct {
	size    int
	limit   float64
	settle  time.Duration // from the start to the steady state
	recover time.Duration // after the cut
	pushes  bool
}

// figures are what a life came to. Shares are of the calls in that time.
type figures struct {
	life
	cold struct {
		first         times         // the waits for first keys
		least         time.Duration // that the limit allows for all of them
		others, peak  float64
		othersError   float64 // the standard error of others, of which a small fleet counts few
		servedInOrder float64
	}
	steady struct {
		rate, share, others, apart, together float64
		intervals                            times
	}
	rotation struct {
		followed times
		share    float64
	}
	starting struct {
		first     times
		overtaken float64
	}
	outage struct {
		peak, share float64
		first       times // after its end, of tasks that started in it
	}
	cut struct {
		share     [2]float64
		intervals times
		back      time.Duration
		share24   float64
	}
	push struct{ spread, atOnce, least times }

	calls calls
	marks []mark
	cuts  [2]time.Duration
}

func (l life) run(f *fleet) *figures {
	r := &figures{life: l}
	for _, step := range []struct {
		name string
		do   func(*figures, *fleet)
	}{
		{"all start", (*figures).coldStart},
		{"", (*figures).steadyState},
		{"rotation", (*figures).rotate},
		{"tasks start", (*figures).startMore},
		{"outage", (*figures).failing},
		{"cut", (*figures).cutting},
	} {
		if step.name != "" {
			r.marks = append(r.marks, mark{f.now(), step.name})
		}
		step.do(r, f)
	}
	r.calls = f.between(0, f.now())
	if l.pushes {
		r.pushing(f)
	}
	return r
}

func (r *figures) free() float64 { return r.limit * (1 - 1./othersPart) }

// coldStart: every task at once.
func (r *figures) coldStart(f *fleet) {
	from := f.now()
	tasks := f.launch(r.size, time.Second)
	f.until(r.settle, func() bool { return len(firstKeys(tasks)) == len(tasks) })
	r.cold.first = firstKeys(tasks)
	r.cold.least = time.Duration(float64(r.size) / r.free() * float64(time.Second))
	waiting := f.between(from, from+r.cold.first.quantile(.99))
	_, r.cold.others = waiting.share()
	r.cold.othersError = math.Sqrt(0.25 / float64(max(1, waiting.sum().others)))
	r.cold.peak = f.between(from+10*time.Second, f.now()).peak(10)
}

func (r *figures) steadyState(f *fleet) {
	f.sleep(r.settle - f.now())
	c := f.after(6 * time.Hour)
	r.steady.rate = c.rate()
	r.steady.share, r.steady.others = c.share()
	r.steady.apart, r.steady.together = c.dispersion(1), c.dispersion(30)
	r.steady.intervals = intervals(f.tasks)
}

// followedBy waits until all tasks have the newest key, for so long at most, and says how long each took.
func (f *fleet) followedBy(since time.Time, atMost time.Duration) times {
	f.until(atMost, func() bool { return len(followed(f.tasks, since)) == len(f.tasks) })
	return followed(f.tasks, since)
}

func (r *figures) rotate(f *fleet) {
	from := f.now()
	r.rotation.followed = f.followedBy(f.rotate(), 14*time.Hour)
	r.rotation.share, _ = f.between(from, f.now()).share()
	f.sleep(30 * time.Minute)
}

// startMore starts a twentieth more tasks, half as fast as the limit allows, as a deployment does.
func (r *figures) startMore(f *fleet) {
	n := r.size / 20
	tasks := f.launch(n, time.Duration(float64(n)/(r.limit/2)*float64(time.Second)))
	f.until(time.Hour, func() bool { return len(firstKeys(tasks)) == n })
	r.starting.first, r.starting.overtaken = firstKeys(tasks), overtaken(tasks)
	f.sleep(time.Hour)
}

// failing: SSM is away for two hours, in which a fiftieth more tasks start.
func (r *figures) failing(f *fleet) {
	f.change(func() { f.down = true })
	time.Sleep(time.Hour)
	tasks := f.launch(r.size/50, time.Minute)
	time.Sleep(59 * time.Minute)
	f.change(func() { f.down = false })
	ended := time.Now()
	c := f.after(time.Hour)
	r.outage.peak = c.peak(60)
	r.outage.share, _ = c.share()
	r.outage.first = followed(tasks, ended)
	f.sleep(time.Hour)
}

// cutting: two hours with a tenth of the limit.
func (r *figures) cutting(f *fleet) {
	before := intervals(f.tasks).mean()
	r.cuts[0] = f.now()
	f.allow(r.limit / 10)
	for i := range r.cut.share {
		r.cut.share[i], _ = f.after(time.Hour).share()
	}
	r.cut.intervals = intervals(f.tasks)
	f.allow(r.limit)
	r.cuts[1] = f.now()
	r.marks = append(r.marks, mark{f.now(), "given back"})
	r.cut.back = f.until(r.recover, func() bool { return intervals(f.tasks).mean() < before*5/4 })
	r.cut.share24, _ = f.between(r.cuts[1], f.now()).share()
}

// pushing tells every task of a rotation, half as fast as the limit allows for the two calls that each makes, and
// then at once.
func (r *figures) pushing(f *fleet) {
	pause := time.Duration(4 / r.free() * float64(time.Second))
	since := f.rotate()
	for _, k := range f.tasks {
		k.RefreshNow()
		time.Sleep(pause)
	}
	r.push.spread = f.followedBy(since, 6*time.Hour)
	f.sleep(3 * time.Hour)
	since = f.rotate()
	for _, k := range f.tasks {
		k.RefreshNow()
	}
	r.push.atOnce = f.followedBy(since, 6*time.Hour)
}
