package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"
)

// queries is what the consumer prints, read as it comes.
type queries struct {
	mu       sync.Mutex
	answered int
	failed   int
	key      string // of the newest answer
	changed  chan struct{}

	stopped               bool // the consumer printed its own sum, below
	ownQueries, ownFailed int
}

var (
	answered = regexp.MustCompile(`msg=answered .*key="?(SHA256:[A-Za-z0-9+/=]+)`)
	failed   = regexp.MustCompile(`msg="query failed"`)
	stopped  = regexp.MustCompile(`msg=stopped queries=(\d+) failures=(\d+)`)
)

func newQueries() *queries { return &queries{changed: make(chan struct{}, 1)} }

func (q *queries) line(text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m := answered.FindStringSubmatch(text); m != nil {
		q.answered++
		q.key = m[1]
	}
	if failed.MatchString(text) {
		q.failed++
	}
	if m := stopped.FindStringSubmatch(text); m != nil {
		q.stopped = true
		q.ownQueries, _ = strconv.Atoi(m[1])
		q.ownFailed, _ = strconv.Atoi(m[2])
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

func (q *queries) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answered
}

func (q *queries) waitForKey(ctx context.Context, fingerprint string) error {
	for {
		q.mu.Lock()
		key := q.key
		q.mu.Unlock()
		if key == fingerprint {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no query on %s: %w", fingerprint, ctx.Err())
		case <-q.changed:
		}
	}
}

// A result is what the consumer did, by its own count and by its lines.
type result struct {
	answered, failed      int
	key                   string
	stopped               bool
	ownQueries, ownFailed int
}

func (q *queries) result() result {
	q.mu.Lock()
	defer q.mu.Unlock()
	return result{q.answered, q.failed, q.key, q.stopped, q.ownQueries, q.ownFailed}
}

// report prints the table and judges it.
func report(r result, first, second pair, took time.Duration, afterRemoval int) error {
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, row := range [][2]any{
		{"queries", r.ownQueries},
		{"failed", max(r.failed, r.ownFailed)},
		{"key before", first.fingerprint},
		{"key after", r.key},
		{"from the parameter's change to the first query on the new key", took.Round(time.Millisecond)},
		{"queries since the old public key was removed", afterRemoval},
	} {
		fmt.Fprintf(table, "  %v\t%v\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var wrong []error
	check := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, errors.New(text))
		}
	}
	check(r.stopped, "the consumer did not stop in good order")
	check(r.failed == 0 && r.ownFailed == 0, "queries failed")
	check(r.key == second.fingerprint, "the last query was not on the new key")
	check(r.answered > 0 && r.ownQueries-r.answered <= 4, "queries without an answer") // 4 workers may be cut off at the end
	check(afterRemoval > 0, "no query after the old key was removed")
	check(took < 10*interval, "the new key took too long")
	return errors.Join(wrong...)
}
