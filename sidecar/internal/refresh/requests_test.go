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
	looks := asking(t, time.Hour, func(r *Requests) {
		r.Ask()
		time.Sleep(time.Second)
		r.Ask() // heard at 5
		time.Sleep(20 * time.Second)
		r.Ask() // at 21: the gap of 10 s is over
		time.Sleep(6 * time.Second)
		r.Ask()
	})
	if want := []int{0, 5, 21, 27}; !slices.Equal(looks, want) {
		t.Errorf("looks at %v s, want %v", looks, want)
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

// SSM has said that it is asked too often: who cannot see that does not make it worse, whoever can may.
func TestARequestDoesNotDisturbAThrottledKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()

		f.Request()
		synctest.Wait()
		f.source.err = failure.New(keyfile.ClassThrottled, errors.New("too often"), "wait")
		f.Request()
		synctest.Wait()
		if n := len(f.source.looks); n != 3 {
			t.Errorf("%d looks, want the first and two that were requested", n)
		}
		f.Request()
		synctest.Wait()
		if n := len(f.source.looks); n != 3 {
			t.Errorf("%d looks after SSM throttled", n)
		}
		f.Now()
		synctest.Wait()
		if n := len(f.source.looks); n != 4 {
			t.Errorf("%d looks after SIGHUP, want 4", n)
		}
		cancel()
		<-ended
	})
}
