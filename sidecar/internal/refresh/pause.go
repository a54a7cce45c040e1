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
	// leastPause keeps a random pause from being none at all.
	leastPause = 250 * time.Millisecond
	// waitingPause is the highest ceiling while the task still waits for its first key, or for another
	// sidecar to end.
	waitingPause = 30 * time.Second
	// grace is how long a passphrase may not fit a key that was just changed: the two parameters
	// cannot be changed together.
	grace = time.Minute
)

// pause is the time until the next look.
func (r *Refresher) pause(err error) time.Duration {
	if err == nil {
		return jittered(r.Interval)
	}
	ceiling := r.Interval
	if r.good == nil || publish.Taken(err) {
		ceiling = min(ceiling, waitingPause)
	}
	if failure.Class(err) == keyfile.ClassThrottled && r.good != nil {
		return jittered(r.Interval) + backoff(r.failures, ceiling) // less often than ever, not more
	}
	return backoff(r.failures, ceiling)
}

// jittered is d give or take a tenth, so that tasks started together do not look together.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// backoff is a random pause below a ceiling that doubles with each failure ("full jitter").
func backoff(failures int, highest time.Duration) time.Duration {
	ceiling := firstPause
	for range failures - 1 {
		if ceiling >= highest {
			break
		}
		ceiling *= 2
	}
	return leastPause + rand.N(min(ceiling, highest))
}

// report counts failures, and writes a line when something happened: none for a look that found
// everything as it was.
func (r *Refresher) report(ctx context.Context, published bool, err error) {
	if published {
		r.Log.Info("key published", "fingerprint", r.status.Fingerprint, "source", r.Name,
			"version", r.status.Version, "dir", r.Dir.Path, "filesystem", r.status.Filesystem)
	}
	if err == nil {
		if r.failures > 0 {
			r.Log.Info("recovered", "after_failures", r.failures, "after", time.Since(r.failing).String())
		}
		r.failures = 0
		return
	}
	if r.failures == 0 {
		r.failing = time.Now()
	}
	r.failures++
	r.Log.Log(ctx, r.level(err), "look failed", "error", err.Error(), "class", failure.Class(err),
		"failures", r.failures, "key_on_disk", r.status.Fingerprint)
}

// level is a warning while key and passphrase may be between two changes.
func (r *Refresher) level(err error) slog.Level {
	between := r.good != nil && failure.Class(err) == keyfile.ClassPassphrase && time.Since(r.failing) < grace
	if between {
		return slog.LevelWarn
	}
	return slog.LevelError
}
