package refresh

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// asking runs Requests and gives the seconds at which there were looks.
func asking(t *testing.T, interval time.Duration, ask func(*Requests)) []int {
	t.Helper()
	var looks []int
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := NewRequests(func() { looks = append(looks, int(time.Since(began).Seconds())) }, interval)
		ctx, cancel := context.WithCancel(t.Context())
		go r.Run(ctx)
		ask(r)
		synctest.Wait()
		cancel()
		synctest.Wait()
	})
	return looks
}

func TestWhoAsksWithoutEndCausesNoMoreLooksThanTheInterval(t *testing.T) {
	looks := asking(t, time.Minute, func(r *Requests) {
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(100 * time.Millisecond) {
			r.Ask()
		}
	})
	if want := []int{0, 5, 15, 35, 75, 135, 195, 255}; !slices.Equal(looks, want) {
		t.Errorf("looks at %v s, want %v", looks, want)
	}
}

func TestWhoAsksNowAndThenIsHeardAtOnce(t *testing.T) {
	looks := asking(t, time.Minute, func(r *Requests) {
		r.Ask()
		time.Sleep(time.Second)
		r.Ask() // heard at 5
		time.Sleep(20 * time.Second)
		r.Ask() // at 21: the gap of 10 s is over
		time.Sleep(6 * time.Second)
		r.Ask() // at 41
		time.Sleep(2 * time.Minute)
		r.Ask() // at 147
		time.Sleep(6 * time.Second)
		r.Ask() // at 153: for a minute nobody asked, so that the gap was 5 s
	})
	if want := []int{0, 5, 21, 41, 147, 153}; !slices.Equal(looks, want) {
		t.Errorf("looks at %v s, want %v", looks, want)
	}
}

// A program that tries its login again every few seconds, or somebody who has read the code: whatever the
// time between two requests, in the end there are few looks beside those of the interval.
func TestWhoAsksJustAfterEachGapCausesFewLooks(t *testing.T) {
	const interval, long = 5 * time.Minute, 10 * time.Hour
	for _, between := range []time.Duration{5100 * time.Millisecond, 6 * time.Second, 11 * time.Second, time.Minute, 4 * time.Minute, 301 * time.Second, 10 * time.Minute} {
		looks := asking(t, interval, func(r *Requests) {
			for began := time.Now(); time.Since(began) < long; time.Sleep(between) {
				r.Ask()
			}
		})
		if most := int(long/interval) + 10; len(looks) > most {
			t.Errorf("%d looks in %v for a request every %v, want at most %d", len(looks), long, between, most)
		}
	}
	// The worst that can be done: five looks, and then as long a silence as shortens the gap again.
	const moment = 10 * time.Millisecond
	looks := asking(t, interval, func(r *Requests) {
		for began := time.Now(); time.Since(began) < long; time.Sleep(interval) {
			for gap := requestGap; gap <= 16*requestGap; gap *= 2 {
				r.Ask()
				time.Sleep(gap + moment)
			}
		}
	})
	t.Logf("%d looks in %v at the worst, where there are %d anyway", len(looks), long, long/interval)
	if most := 4 * int(long/interval); len(looks) < most/2 || len(looks) > most {
		t.Errorf("%d looks, want at most %d", len(looks), most)
	}
}

func TestAnIntervalBelowTheGapDoesNotShortenIt(t *testing.T) {
	looks := asking(t, time.Second, func(r *Requests) {
		for began := time.Now(); time.Since(began) < 12*time.Second; time.Sleep(100 * time.Millisecond) {
			r.Ask()
		}
	})
	if want := []int{0, 5, 10}; !slices.Equal(looks, want) {
		t.Errorf("looks at %v s, want %v", looks, want)
	}
}

// looksAfter is how many looks there were, once a request had its effect.
func (f fixture) looksAfter(ask func()) int {
	ask()
	synctest.Wait()
	return len(f.source.looks)
}

// SSM has said that it is asked too often: who cannot see that does not make it worse, whoever can may.
func TestARequestDoesNotDisturbAThrottledKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)

		f.looksAfter(f.Request)
		f.source.err = failure.New(keyfile.ClassThrottled, errors.New("too often"), "wait")
		if n := f.looksAfter(f.Request); n != 3 {
			t.Errorf("%d looks, want the first and two that were requested", n)
		}
		if n := f.looksAfter(f.Request); n != 3 {
			t.Errorf("%d looks after SSM throttled", n)
		}
		if n := f.looksAfter(f.Now); n != 4 {
			t.Errorf("%d looks after SIGHUP, want 4", n)
		}
		stop()
	})
}

// Nor after a restart, of a key that has time since SSM throttled the predecessor.
func TestARequestDoesNotDisturbAKeyThatWasThrottledBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := start(t)
		first.source.set(testkey.Key(0))
		_ = first.Look(t.Context())
		first.source.err = throttled
		_ = first.Look(t.Context())

		f := start(t, func(_ *Options, k *Key) { k.Dir = first.Dir })
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		if n := f.looksAfter(f.Request); n != 0 {
			t.Errorf("%d looks after a request", n)
		}
		if n := f.looksAfter(f.Now); n != 1 {
			t.Errorf("%d looks after SIGHUP, want 1", n)
		}
		stop()
	})
}
