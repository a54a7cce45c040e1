package trigger

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// refreshesOf runs a Limiter and gives the seconds at which it caused refreshes.
func refreshesOf(t *testing.T, interval time.Duration, request func(*Limiter)) []int {
	t.Helper()
	var refreshes []int
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := NewLimiter(LeastGap, interval)
		ctx, cancel := context.WithCancel(t.Context())
		go l.Run(ctx, func() { refreshes = append(refreshes, int(time.Since(began).Seconds())) })
		request(l)
		synctest.Wait()
		cancel()
		synctest.Wait()
	})
	return refreshes
}

func TestLimiter_FloodCausesNoMoreRefreshesThanInterval(t *testing.T) {
	refreshes := refreshesOf(t, time.Minute, func(l *Limiter) {
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(100 * time.Millisecond) {
			l.Request()
		}
	})
	if want := []int{0, 5, 15, 35, 75, 135, 195, 255}; !slices.Equal(refreshes, want) {
		t.Errorf("refreshes at %v s, want %v", refreshes, want)
	}
}

func TestLimiter_RareRequestRefreshesAtOnce(t *testing.T) {
	refreshes := refreshesOf(t, time.Minute, func(l *Limiter) {
		l.Request()
		time.Sleep(time.Second)
		l.Request() // causes a refresh at 5
		time.Sleep(20 * time.Second)
		l.Request() // at 21: the gap of 10 s is over
		time.Sleep(6 * time.Second)
		l.Request() // at 41
		time.Sleep(2 * time.Minute)
		l.Request() // at 147
		time.Sleep(6 * time.Second)
		l.Request() // at 153: the gap is 5 s after a quiet minute
	})
	if want := []int{0, 5, 21, 41, 147, 153}; !slices.Equal(refreshes, want) {
		t.Errorf("refreshes at %v s, want %v", refreshes, want)
	}
}

// A program that retries its login every few seconds, or an attacker who has read the code: whatever the time between two
// requests, they cause few refreshes beside those of the interval.
func TestLimiter_RequestAfterEachGapCausesFewRefreshes(t *testing.T) {
	const interval, long = 5 * time.Minute, 10 * time.Hour
	for _, between := range []time.Duration{5100 * time.Millisecond, 6 * time.Second, 11 * time.Second, time.Minute, 4 * time.Minute, 301 * time.Second, 10 * time.Minute} {
		refreshes := refreshesOf(t, interval, func(l *Limiter) {
			for began := time.Now(); time.Since(began) < long; time.Sleep(between) {
				l.Request()
			}
		})
		if most := int(long/interval) + 10; len(refreshes) > most {
			t.Errorf("%d refreshes in %v for a request every %v, want at most %d", len(refreshes), long, between, most)
		}
	}
	// The worst case: five refreshes, and then a silence just long enough to reset the gap.
	const moment = 10 * time.Millisecond
	refreshes := refreshesOf(t, interval, func(l *Limiter) {
		for began := time.Now(); time.Since(began) < long; time.Sleep(interval) {
			for gap := LeastGap; gap <= 16*LeastGap; gap *= 2 {
				l.Request()
				time.Sleep(gap + moment)
			}
		}
	})
	t.Logf("%d refreshes in %v in the worst case, beside %d of the interval", len(refreshes), long, long/interval)
	if most := 4 * int(long/interval); len(refreshes) < most/2 || len(refreshes) > most {
		t.Errorf("%d refreshes, want at most %d", len(refreshes), most)
	}
}

func TestLimiter_ShortIntervalKeepsLeastGap(t *testing.T) {
	refreshes := refreshesOf(t, time.Second, func(l *Limiter) {
		for began := time.Now(); time.Since(began) < 12*time.Second; time.Sleep(100 * time.Millisecond) {
			l.Request()
		}
	})
	if want := []int{0, 5, 10}; !slices.Equal(refreshes, want) {
		t.Errorf("refreshes at %v s, want %v", refreshes, want)
	}
}

func TestLimiter_SignalFloodIsLimited(t *testing.T) {
	refreshes := refreshesOf(t, time.Minute, func(l *Limiter) {
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
			l.Request()
		}
	})
	if want := []int{0, 5, 15}; !slices.Equal(refreshes, want) {
		t.Errorf("refreshes at %v s, want %v", refreshes, want)
	}
}

// A program that may connect but not send signals must not delay the operator's signal.
func TestLimiter_SocketFloodDelaysNoSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var connected, signalled int
		socket := NewLimiter(LeastGap, time.Hour)
		signal := NewLimiter(LeastGap, time.Hour)
		go socket.Run(ctx, func() { connected++ })
		go signal.Run(ctx, func() { signalled++ })
		for range 1000 {
			socket.Request()
			time.Sleep(time.Second)
		}
		signal.Request()
		synctest.Wait()
		if connected > 10 || signalled != 1 {
			t.Errorf("%d refreshes by connections, %d by the signal", connected, signalled)
		}
		cancel()
		synctest.Wait()
	})
}
