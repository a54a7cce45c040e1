package snowkey

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// Stats are what a Connector has done and how it stands. Fingerprints are as DESC USER prints them.
type Stats struct {
	Serving   string // of the key for new logins
	Candidate string // of a newer key that is not accepted yet; empty if there is none
	Open      int    // connections that database/sql has
	SetAside  int    // connections ready for it

	Rotations int64 // changes of the serving key
	Logins    int64 // that succeeded
	Refusals  int64 // logins that Snowflake refused because of the key

	LastError   error // nil if there was none since the last change of the serving key
	LastErrorAt time.Time
}

// Stats tells how the connector stands.
func (c *Connector) Stats() Stats {
	s := Stats{
		Serving:   c.pool.serving().Fingerprint(),
		Rotations: c.counts.rotations.Load(),
		Logins:    c.counts.logins.Load(),
		Refusals:  c.counts.refusals.Load(),
	}
	s.Open, s.SetAside = c.pool.sizes()
	if candidate := c.counts.candidate.Load(); candidate != nil && candidate.Fingerprint() != s.Serving {
		s.Candidate = candidate.Fingerprint()
	}
	if last := c.counts.lastError.Load(); last != nil {
		s.LastError, s.LastErrorAt = last.err, last.at
	}
	return s
}

type counts struct {
	rotations, logins, refusals atomic.Int64

	candidate atomic.Pointer[keyfile.Key]
	lastError atomic.Pointer[timedError]
	revoked   atomic.Pointer[keyfile.Key] // a serving key whose refusal was reported
	refusedAt atomic.Pointer[timedKey]    // by a rescue
	reporting sync.Mutex
}

type timedKey struct {
	key *keyfile.Key
	at  time.Time
}

// refusedLately keeps many queries from asking about the same key again and again.
func (c *counts) refusedLately(key *keyfile.Key) bool {
	last := c.refusedAt.Load()
	return last != nil && same(last.key, key) && time.Since(last.at) < firstPause
}

type timedError struct {
	err error
	at  time.Time
}

// An EventKind says what happened.
type EventKind string

// The kinds.
const (
	Adopted EventKind = "adopted" // the key serves from now on
	Refused EventKind = "refused" // Snowflake does not accept the key yet; it is tried again
	Failed  EventKind = "failed"  // Snowflake could not be asked; it is tried again
)

// An Event is something that happened to a key.
type Event struct {
	Kind        EventKind
	Fingerprint string        // of the key, as DESC USER prints it
	Err         error         // of a refusal or failure
	Connections int           // of an adoption: logged in beforehand
	Took        time.Duration // of an adoption: to log them in
}

// reportRevoked reports once that the serving key is refused.
func (c *Connector) reportRevoked(key *keyfile.Key, err error) {
	if c.counts.revoked.Swap(key) != key {
		c.report(Event{Kind: Refused, Fingerprint: key.Fingerprint(), Err: err})
	}
}

func (c *Connector) report(e Event) {
	c.counts.reporting.Lock()
	defer c.counts.reporting.Unlock()
	level, message := slog.LevelWarn, "key not adopted, serving key kept"
	switch serving := c.pool.serving(); {
	case e.Kind == Adopted:
		level, message = slog.LevelInfo, "key adopted"
		c.counts.lastError.Store(nil)
	case serving == nil:
		message = "waiting for a key that is accepted"
	case e.Kind == Refused && e.Fingerprint == serving.Fingerprint():
		level, message = slog.LevelError, "the serving key is refused: new connections fail until there is another key"
	}
	attrs := []any{"kind", string(e.Kind), "fingerprint", e.Fingerprint}
	if e.Err != nil {
		c.counts.lastError.Store(&timedError{e.Err, time.Now()})
		attrs = append(attrs, "error", e.Err.Error())
	} else {
		attrs = append(attrs, "connections", e.Connections, "took", e.Took.String())
	}
	c.options.log.Log(context.Background(), level, message, attrs...)
	c.events.add(e)
}

// events are on their way to the callback.
type events struct {
	callback func(Event)
	mu       sync.Mutex
	queue    []Event
	more     chan struct{}
}

func newEvents(callback func(Event)) *events {
	return &events{callback: callback, more: make(chan struct{}, 1)}
}

func (e *events) add(event Event) {
	if e.callback == nil {
		return
	}
	e.mu.Lock()
	e.queue = append(e.queue, event)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

func (e *events) take() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.queue
	e.queue = nil
	return all
}

// deliver hands events over until ctx ends, and then what is left of them.
func (e *events) deliver(ctx context.Context) {
	for last := false; !last; {
		select {
		case <-e.more:
		case <-ctx.Done():
			last = true
		}
		for _, event := range e.take() {
			e.callback(event)
		}
	}
}
