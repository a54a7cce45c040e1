package refresh

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

const (
	// firstPause is the ceiling of the pause after a first failure; it doubles with each further one.
	firstPause = time.Second
	// firstPart is which part of the interval that is at least, for a task that has its key: in an outage a fleet whose
	// interval has become long must not look much more often than it did before.
	firstPart = 512
	// leastPause keeps a random pause from being none at all.
	leastPause = 250 * time.Millisecond
	// waitingPause is the highest ceiling while the task still waits for its first key, or for another
	// sidecar to end.
	waitingPause = 30 * time.Second
	// queuePause is the ceiling of the pause after SSM first throttled a task that waits for its first key.
	queuePause = 4 * time.Second
	// longestQueue is from when on such a task asks no less often: 100,000 that ask each hour are within the limit.
	longestQueue = 2 * time.Hour
	// grace is how long a passphrase may not fit a key that was just changed: the two parameters
	// cannot be changed together.
	grace = time.Minute
)

// A situation is what the pause after a failure depends on.
type situation struct {
	failures  int // in a row
	throttled bool
	since     time.Time // the first throttled look in a row
	waiting   bool      // for a first key, a newer one that it knows of, or another sidecar to end
}

// pause is the time until the next look after one that failed. Who has a key and is throttled has no other than the
// interval.
func (s situation) pause(now time.Time, interval time.Duration) time.Duration {
	switch {
	case s.throttled && s.waiting:
		return queued(now.Sub(s.since))
	case s.waiting:
		return backoff(s.failures, min(interval, waitingPause))
	}
	if ceiling := ceilingAfter(s.failures, max(firstPause, interval/firstPart)); ceiling < interval {
		return leastPause + rand.N(ceiling)
	}
	return jittered(interval) // a random time below it would be half of it on average
}

// queued is the pause of a task that has been throttled for so long while it waits for a key. Who starts
// together cannot queue, since none knows of another. But the longer a task has waited, the more there are of
// them, so that each asks less often: a quarter to half as long again. Whatever their number, together they ask
// about twice as often as SSM answers, and leave little of its limit unused.
func queued(waited time.Duration) time.Duration {
	waited = min(waited, longestQueue)
	return leastPause + rand.N(queuePause) + waited/4 + rand.N(waited/4+1)
}

// backoff is a random pause below a ceiling that doubles with each failure ("full jitter").
func backoff(failures int, highest time.Duration) time.Duration {
	return leastPause + rand.N(min(ceilingAfter(failures, firstPause), highest))
}

// ceilingAfter doubles with each failure, up to more than any interval.
func ceilingAfter(failures int, first time.Duration) time.Duration {
	return first << min(failures-1, 12)
}

// report counts failures, and writes a line when something happened: none for a look that found
// everything as it was.
func (k *key) report(ctx context.Context, published bool, err error) {
	if published {
		k.log.Info("key published", "fingerprint", k.status.Fingerprint, "source", k.Source,
			"version", k.status.Version, "dir", k.Dir.String(), "filesystem", k.status.Filesystem)
	}
	if err == nil {
		if k.failures > 0 {
			k.log.Info("recovered", "after_failures", k.failures, "after", time.Since(k.failing).String())
		}
		k.situation = situation{}
		return
	}
	if k.failures == 0 {
		k.failing = time.Now()
	}
	class := failure.Class(err)
	k.situation = k.after(class, k.good == nil || k.behind && class == keyfile.ClassThrottled || publish.Taken(err))
	about := append(failure.Attributes(err), "failures", k.failures, "key_on_disk", k.status.Fingerprint)
	if k.throttled && !k.waiting {
		about = append(about, "interval", k.interval.Round(time.Second).String())
	}
	k.log.Log(ctx, k.level(class), "look failed", about...)
}

// after is the situation of a key whose look failed.
func (k *key) after(class keyfile.ErrorClass, waiting bool) situation {
	s := situation{failures: k.failures + 1, throttled: class == keyfile.ClassThrottled, waiting: waiting}
	if s.throttled {
		s.since = k.looked
	}
	if s.throttled && k.throttled {
		s.since = k.since
	}
	return s
}

// level is a warning while key and passphrase may be between two changes.
func (k *key) level(class keyfile.ErrorClass) slog.Level {
	between := k.good != nil && class == keyfile.ClassPassphrase && time.Since(k.failing) < grace
	if between {
		return slog.LevelWarn
	}
	return slog.LevelError
}
