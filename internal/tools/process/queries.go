package process

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
)

// Queries counts what the consumer prints, while it runs.
type Queries struct {
	mu      sync.Mutex
	counts  Counts
	changed chan struct{}
}

// Counts are the consumer's, from its lines and from the sum that it prints at its end.
type Counts struct {
	Answered, Failed int
	Key              string // the fingerprint in the newest answer

	Stopped               bool // the consumer has printed its sum
	OwnQueries, OwnFailed int
}

var (
	answered = regexp.MustCompile(`msg=answered .*fingerprint="?(SHA256:[A-Za-z0-9+/=]+)`)
	failed   = regexp.MustCompile(`msg="query failed"`)
	stopped  = regexp.MustCompile(`msg=stopped queries=(\d+) failures=(\d+)`)
)

// NewQueries is for one consumer. Pass each of its lines to Line.
func NewQueries() *Queries { return &Queries{changed: make(chan struct{}, 1)} }

// Line reads a line of the consumer's.
func (q *Queries) Line(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m := answered.FindStringSubmatch(text); m != nil {
		q.counts.Answered++
		q.counts.Key = m[1]
	}
	if failed.MatchString(text) {
		q.counts.Failed++
	}
	if m := stopped.FindStringSubmatch(text); m != nil {
		q.counts.Stopped = true
		q.counts.OwnQueries, _ = strconv.Atoi(m[1])
		q.counts.OwnFailed, _ = strconv.Atoi(m[2])
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// Counts returns what was counted so far.
func (q *Queries) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// WaitForKey waits until a query was answered on the key with this fingerprint.
func (q *Queries) WaitForKey(ctx context.Context, fingerprint string) error {
	for q.Counts().Key != fingerprint {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no query on %s: %w", fingerprint, ctx.Err())
		case <-q.changed:
		}
	}
	return nil
}
