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

// A situation is what the pause after a failure depends on.
type situation struct {
	failures  int // in a row
	throttled bool
	waiting   bool // for a first key, or for another sidecar to end
}

// pause is the time until the next look after one that failed.
func (s situation) pause(interval time.Duration) time.Duration {
	ceiling := interval
	if s.waiting {
		ceiling = min(ceiling, waitingPause)
	}
	if s.throttled && !s.waiting {
		return jittered(interval) + backoff(s.failures, ceiling) // less often than ever, not more
	}
	return backoff(s.failures, ceiling)
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
func (k *key) report(ctx context.Context, published bool, err error) {
	if published {
		k.log.Info("key published", "fingerprint", k.status.Fingerprint, "source", k.Source,
			"version", k.status.Version, "dir", k.Dir.Path, "filesystem", k.status.Filesystem)
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
	k.situation = situation{failures: k.failures + 1, throttled: class == keyfile.ClassThrottled, waiting: k.good == nil || publish.Taken(err)}
	k.log.Log(ctx, k.level(class), "look failed",
		append(failure.Attributes(err), "failures", k.failures, "key_on_disk", k.status.Fingerprint)...)
}

// level is a warning while key and passphrase may be between two changes.
func (k *key) level(class keyfile.ErrorClass) slog.Level {
	between := k.good != nil && class == keyfile.ClassPassphrase && time.Since(k.failing) < grace
	if between {
		return slog.LevelWarn
	}
	return slog.LevelError
}
