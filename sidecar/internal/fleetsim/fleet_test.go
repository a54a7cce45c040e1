package fleetsim

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

const (
	parameter = "arn:aws:ssm:us-east-1:000000000000:parameter/app/key"
	interval  = 5 * time.Minute
)

// memory is a key directory without files.
type memory struct {
	key    *keyfile.Key
	status keyfile.Status
}

func (*memory) String() string                     { return "memory" }
func (*memory) Create() error                      { return nil }
func (*memory) Disown()                            {}
func (*memory) Health() error                      { return nil }
func (*memory) Unlock()                            {}
func (*memory) Unlocked() string                   { return "" }
func (*memory) Filesystem() string                 { return "memory" }
func (*memory) Lock(context.Context, string) error { return nil }
func (m *memory) Status(s keyfile.Status) error    { m.status = s; return nil }
func (m *memory) Previous(same func(string) bool) (*keyfile.Key, keyfile.Status) {
	if !same(m.status.Source) {
		return nil, keyfile.Status{}
	}
	return m.key, m.status
}
func (*memory) Newer(*keyfile.Key) (*keyfile.Key, keyfile.Status) { return nil, keyfile.Status{} }

func (m *memory) Key(k *keyfile.Key) (bool, error) {
	changed := !k.Equal(m.key)
	m.key = k
	return changed, nil
}

// A task is one sidecar's loop and what it has achieved.
type task struct {
	*refresh.Refresher
	dir     *memory
	started time.Time

	mu       sync.Mutex
	keys     []time.Time // when it had each version of the key
	interval time.Duration
}

func (k *task) observe(o refresh.Outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.interval = o.Interval
	if o.Published {
		k.keys = append(k.keys, time.Now())
	}
}

// first is when it had its first key, and newest when it had its last one; zero if it has none.
func (k *task) first() (at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) > 0 {
		at = k.keys[0]
	}
	return at
}

func (k *task) newest() (at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.keys); n > 0 {
		at = k.keys[n-1]
	}
	return at
}

func (k *task) every() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.interval
}

// A fleet is tasks in one account.
type fleet struct {
	*account
	t       *testing.T
	ctx     context.Context
	running sync.WaitGroup
	tasks   []*task

	rotations int
}

// run has a scenario in a fleet on simulated time.
func run(t *testing.T, limit float64, scenario func(*fleet)) {
	testkey.Key(1)
	text := string(keyfile.PEM.Encode(testkey.Key(0)))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fleet{account: newAccount(limit), t: t, ctx: ctx}
		f.store(text)
		scenario(f)
		cancel()
		f.running.Wait()
	})
}

// task makes a task with what its directory holds.
func (f *fleet) task(dir *memory) *task {
	handle, err := ssm.NewKey(ssm.Parameters{Key: parameter})
	if err != nil {
		f.t.Fatal(err)
	}
	k := &task{dir: dir, started: time.Now(), interval: interval}
	k.Refresher = refresh.New(refresh.Options{
		Source:   ssm.NewReaderOf(f.account, "us-east-1", handle),
		Keys:     []refresh.Key{{Handle: handle, Parameter: parameter, Dir: dir}},
		Interval: interval,
		Log:      slog.New(slog.DiscardHandler),

		Subscribers: []refresh.Subscriber{{Name: "test", Notify: k.observe}},
	})
	return k
}

// launch starts n tasks, evenly over a time, and lets them run.
func (f *fleet) launch(n int, over time.Duration) []*task {
	first := len(f.tasks)
	for range n {
		k := f.task(&memory{})
		f.tasks = append(f.tasks, k)
		f.running.Go(func() { _ = k.Run(f.ctx) })
		time.Sleep(over / time.Duration(n))
	}
	return f.tasks[first:]
}

// restart starts a task again and again, each time after a while, as a container that crashes.
func (f *fleet) restart(dir *memory, after time.Duration) {
	for f.ctx.Err() == nil {
		ctx, crash := context.WithTimeout(f.ctx, after)
		_ = f.task(dir).Run(ctx)
		crash()
	}
}

// rotate stores another key, and gives the time.
func (f *fleet) rotate() time.Time {
	f.rotations++
	f.store(string(keyfile.PEM.Encode(testkey.Key(f.rotations % 2))))
	return time.Now()
}

// now is the time since the start.
func (f *fleet) now() time.Duration { return time.Since(f.began) }

// sleep lets time pass, and everything that happens at its end happen.
func (f *fleet) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// after gives what happened in the time to come.
func (f *fleet) after(d time.Duration) calls {
	from := f.now()
	f.sleep(d)
	return f.between(from, f.now())
}

// until waits until it is so, and says how long that took; not longer than at most.
func (f *fleet) until(atMost time.Duration, so func() bool) time.Duration {
	began := time.Now()
	synctest.Wait()
	for time.Since(began) < atMost {
		if so() {
			break
		}
		f.sleep(30 * time.Second)
	}
	return time.Since(began)
}

// firstKeys are the times that tasks waited for their first keys; those that have none yet are left out.
func firstKeys(tasks []*task) times {
	var all times
	for _, k := range tasks {
		if at := k.first(); !at.IsZero() {
			all = append(all, at.Sub(k.started))
		}
	}
	slices.Sort(all)
	return all
}

// followed are the times from then to the newest key of those that have it.
func followed(tasks []*task, then time.Time) times {
	var all times
	for _, k := range tasks {
		if at := k.newest(); at.After(then) {
			all = append(all, at.Sub(then))
		}
	}
	slices.Sort(all)
	return all
}

// intervals are the times between refreshes.
func intervals(tasks []*task) times {
	var all times
	for _, k := range tasks {
		all = append(all, k.every())
	}
	slices.Sort(all)
	return all
}

// overtaken is the share of pairs of tasks in which the one that started later had its key first, of those that did
// not start together.
func overtaken(tasks []*task) float64 {
	var pairs, wrong int
	const step = 37 // of all pairs, some
	for i := range tasks {
		for j := i + 1; j < len(tasks); j += step {
			a, b := tasks[i].first(), tasks[j].first()
			if a.IsZero() || b.IsZero() || !tasks[i].started.Before(tasks[j].started) {
				continue
			}
			pairs++
			if b.Before(a) {
				wrong++
			}
		}
	}
	return float64(wrong) / float64(max(1, pairs))
}

// times are sorted.
type times []time.Duration

func (t times) quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[int(q*float64(len(t)-1))]
}

func (t times) mean() time.Duration {
	var sum time.Duration
	for _, d := range t {
		sum += d
	}
	return sum / time.Duration(max(1, len(t)))
}
