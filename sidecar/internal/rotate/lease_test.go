package rotate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// versions are those that these runs wrote, a minute apart: "A" acquires the lease, "A!" releases it, "A=key" records one.
// "late A!" is a second request for A's second write, and "late A" for its first.
func versions(t *testing.T, written ...string) []ssm.Version {
	t.Helper()
	var all []ssm.Version
	writes := map[string]int{}
	for i, w := range written {
		text := []byte(w)
		if w[0] != '<' {
			w, late := strings.CutPrefix(w, "late ")
			v := leaseVersion{Owner: w[:1], Write: min(len(w), 2)}
			if !late && v.Write == 2 {
				v.Write = max(writes[v.Owner], 1) + 1
				writes[v.Owner] = v.Write
			}
			if len(w) > 1 && w[1] == '!' {
				v.Released = "done"
			}
			if len(w) > 1 && w[1] == '=' {
				v.Rotation = &Rotation{New: w[2:]}
			}
			var err error
			if text, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, ssm.Version{
			Number: int64(i + 1), Value: secret.New(text), Modified: stored.Add(time.Duration(i) * time.Minute),
			Read: stored.Add(time.Duration(len(written)) * time.Minute),
		})
	}
	return all
}

func TestLease_OwnerIsTheFirstToWriteWhenItIsFree(t *testing.T) {
	const expiry = 3 * time.Minute
	for name, tc := range map[string]struct {
		written  []string
		owner    string
		free     bool
		recorded string
	}{
		"none":                               {nil, "", true, ""},
		"one run":                            {[]string{"A"}, "A", false, ""},
		"one that has recorded":              {[]string{"A", "A=K1"}, "A", false, "K1"},
		"one that has released":              {[]string{"A", "A=K1", "A!"}, "A", true, "K1"},
		"two that found it free":             {[]string{"A", "A=K1", "A!", "B", "C"}, "B", false, "K1"},
		"one that lost and wrote anyway":     {[]string{"A", "A=K1", "B=K2"}, "A", false, "K1"},
		"one that does not write in time":    {[]string{"A", "B", "B", "C"}, "C", false, ""},
		"one whose write keeps it":           {[]string{"A", "A=K1", "B", "B", "B"}, "B", false, "K1"},
		"those that lost do not keep it":     {[]string{"A", "B", "B", "B"}, "B", false, ""},
		"a version that is not JSON":         {[]string{"<html>"}, "", false, ""},
		"one over another's":                 {[]string{"A", "A=K1", "<html>"}, "A", false, "K1"},
		"an acquisition leaves the record":   {[]string{"A", "A=K1", "A!", "B"}, "B", false, "K1"},
		"a late acquisition by the owner":    {[]string{"A", "A!", "late A"}, "A", true, ""},
		"a late record by the owner":         {[]string{"A", "A=K1", "A=K2", "late A=K1"}, "A", false, "K2"},
		"a late record after the release":    {[]string{"A", "A=K1", "A!", "late A=K1"}, "A", true, "K1"},
		"a late record after another's":      {[]string{"A", "A=K1", "A!", "B", "B=K2", "B!", "late A=K1"}, "B", true, "K2"},
		"a late acquisition after another's": {[]string{"A", "A!", "B", "B!", "late A"}, "B", true, ""},
		"a late record after the deletion":   {[]string{"late A=K1"}, "", true, ""},
		"a run after such a record":          {[]string{"late A=K1", "B", "B=K2"}, "B", false, "K2"},
	} {
		s := leaseOf(versions(t, tc.written...), expiry)
		if s.owner != tc.owner || s.free(expiry) != tc.free || s.New != tc.recorded || s.number != int64(len(tc.written)) {
			t.Errorf("%s: owner %q, free %v, recorded %q, number %d", name, s.owner, s.free(expiry), s.New, s.number)
		}
	}
}

// However two runs' writes interleave, at no prefix of the log are there two owners of one period.
func TestLease_OwnerChangesOnlyWhenFree(t *testing.T) {
	const expiry = 3 * time.Minute
	writes := []string{"A", "B", "A!", "B!", "A=K1", "B=K2"}
	for n := range 6 * 6 * 6 * 6 {
		var log []string
		for range 4 {
			log, n = append(log, writes[n%6]), n/6
		}
		for i := 1; i < len(log); i++ {
			all := versions(t, log...)
			before, after := leaseOf(all[:i], expiry), leaseOf(all[:i+1], expiry)
			before.now = all[i].Modified
			if before.owner != after.owner && !before.free(expiry) {
				t.Fatalf("%v: %s lost it to %s", log[:i+1], before.owner, after.owner)
			}
		}
	}
}

func TestRotation_NamesWhatInterruptedRunsMade(t *testing.T) {
	var r Rotation
	for n := range 2 * maxUnused {
		r = r.next(fmt.Sprint("K", n), "A", 1, time.Hour)
	}
	last := 2*maxUnused - 1
	if !r.names(fmt.Sprint("K", last)) || !r.names(fmt.Sprint("K", last-1)) || !r.names("A") || r.names("B") || len(r.Unused) > maxUnused {
		t.Errorf("%+v", r)
	}
	if r = r.next("K", fmt.Sprint("K", last), 1, time.Hour); r.Old != fmt.Sprint("K", last) {
		t.Errorf("%+v", r)
	}
}

// leaseFor is a lease of a run that has not acquired it, and fails where it would have to wait.
func (p *process) leaseFor(t timing) *lease {
	return &lease{store: p.Store, name: keyParameter + LeaseSuffix, timing: t, say: p.t.Logf}
}

var errWaits = errors.New("it waits")

func doNotWait(context.Context, time.Duration) error { return errWaits }

// A run that waits reads a lease that is released, and before it writes the other run deletes it: what it writes then is
// a new lease, which it has to delete.
func TestLease_DeletedWhileAnotherRunAcquiresIt(t *testing.T) {
	f := newFixture(t)
	p := f.process()
	first, second := p.leaseFor(p.timing), p.leaseFor(p.timing)
	if err := first.acquire(t.Context(), leaseState{}, doNotWait); err != nil {
		t.Fatal(err)
	}
	if err := first.write(t.Context(), leaseVersion{Released: "a wait"}); err != nil {
		t.Fatal(err)
	}
	stale, err := second.read(t.Context())
	if err != nil || !stale.released {
		t.Fatalf("%+v, error %v", stale, err)
	}
	if err := p.Store.Delete(t.Context(), first.name); err != nil {
		t.Fatal(err)
	}
	if err := second.acquire(t.Context(), stale, doNotWait); err != nil {
		t.Fatal(err)
	}
	second.end(t.Context(), unchanged("there was nothing to do"))
	if f.leased() {
		t.Error("the lease is still there")
	}
}

// A machine sleeps between a run's last change and the end of its lease, for longer than the lease lasts. Another run has
// recorded a key by then, which only its record names.
func TestLease_SleeperLeavesAnotherRunsRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.process()
	first.NoWait, first.Grace = true, time.Hour
	first.must("first", Published)
	sleeper, slept := f.process(), false
	sleeper.Finish, sleeper.RevokeOld = true, true
	sleeper.after = func(c call) {
		if slept || !strings.HasPrefix(c.what, "ALTER") {
			return
		}
		slept = true
		time.Sleep(1500 * time.Millisecond)
		other := f.process()
		other.ForceNew = true
		other.fate = fateOf("ALTER USER SVC SET", killedAfter)
		_, _ = other.run()
		if !f.leased() {
			t.Error("the other run has no lease")
		}
	}
	_, _ = sleeper.run()
	if !f.leased() {
		t.Error("the sleeper deleted another run's lease")
	}
	f.process().must("after both")
	f.settled("after both")
}

// The first of two requests for an acquisition comes late, when the lease is free. Its run has lost by the second one, and
// tries again: it is another owner then, and never one of a lease that has expired.
func TestLease_LateAcquisitionMakesNoSecondOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, ctx := f.process(), t.Context()
	timing := p.timing
	timing.lease, timing.section, timing.poll = 4*time.Second, 500*time.Millisecond, 50*time.Millisecond
	holder, late, third := p.leaseFor(timing), p.leaseFor(timing), p.leaseFor(timing)
	if err := holder.acquire(ctx, leaseState{}, doNotWait); err != nil {
		t.Fatal(err)
	}
	if owner, err := late.attempt(ctx, leaseState{exists: true, released: true}); owner || err != nil {
		t.Fatalf("owner %v, error %v", owner, err)
	}
	if err := holder.write(ctx, leaseVersion{Rotation: &Rotation{New: "K1", Old: "K0"}, Released: "waits"}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.put(ctx, leaseVersion{}, true); err != nil {
		t.Fatal(err)
	}
	now, err := late.read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.acquire(ctx, now, sleep); err != nil {
		t.Fatal(err)
	}
	now, err = third.read(ctx)
	if err != nil || now.age() > 2*time.Second || now.owner != late.id || now.New != "K1" {
		t.Errorf("after it was acquired: %+v, error %v", now, err)
	}
	if err := third.acquire(ctx, now, doNotWait); !errors.Is(err, errWaits) {
		t.Errorf("a second owner, error %v", err)
	}
}

// Runs that change nothing add versions, of which AWS keeps a hundred.
func TestLease_RecordOutlivesHistory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, ctx := f.process(), t.Context()
	first := p.leaseFor(p.timing)
	if err := first.acquire(ctx, leaseState{}, doNotWait); err != nil {
		t.Fatal(err)
	}
	if err := first.write(ctx, leaseVersion{Rotation: &Rotation{New: "K1", Old: "K0"}, Over: true, Released: "done"}); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		l := p.leaseFor(p.timing)
		now, err := l.read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.acquire(ctx, now, doNotWait); err != nil {
			t.Fatal(err)
		}
		l.end(ctx, released("the key could not be removed", nil))
	}
	now, err := first.read(ctx)
	if err != nil || now.number < 120 || now.New != "K1" || !now.over {
		t.Errorf("%+v, error %v", now, err)
	}
}
