package snowkey

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// An EventKind says what happened to a key.
type EventKind string

// The kinds of an [Event].
const (
	KeyActivated EventKind = "activated" // the key serves from now on
	KeyRefused   EventKind = "refused"   // Snowflake refuses the key; it is tried again
	LoginFailed  EventKind = "failed"    // a login with the key failed for another reason; it is tried again
)

// An Event is something that happened to a key.
type Event struct {
	Kind        EventKind
	Fingerprint string // of the key, as DESC USER prints it

	Err error // of KeyRefused and LoginFailed: why

	Sessions int           // of KeyActivated: sessions that were logged in before the change
	Took     time.Duration // of KeyActivated: time from the first of these logins to the change
}

// reportServingRefused reports once that Snowflake refuses the serving key.
func (c *Connector) reportServingRefused(key *keyfile.Key, err error) {
	known := false
	c.stats.update(func(s *Stats) {
		if known = s.ServingErr != nil || !same(key, c.pool.serving()); !known {
			s.ServingErr = err
		}
	})
	if !known {
		c.report(Event{Kind: KeyRefused, Fingerprint: key.Fingerprint(), Err: err})
	}
}

// report logs an event, records it, and hands it to the callback.
func (c *Connector) report(e Event) {
	serving := c.pool.serving()
	level, message := slog.LevelWarn, "new key not active yet, serving key kept"
	switch {
	case e.Kind == KeyActivated:
		level, message = slog.LevelInfo, "key active"
	case serving == nil:
		message = "waiting for a key that Snowflake accepts"
	case e.Kind == LoginFailed && e.Fingerprint == serving.Fingerprint():
		message = "no login yet with the serving key, queries will try again"
	case e.Kind == KeyRefused && e.Fingerprint == serving.Fingerprint():
		level, message = slog.LevelError, "serving key refused, new connections fail"
	}
	c.stats.update(func(s *Stats) { s.record(e) })
	attrs := []any{"kind", string(e.Kind), "fingerprint", e.Fingerprint}
	if e.Err != nil {
		attrs = append(attrs, "error", e.Err.Error())
	} else {
		attrs = append(attrs, "sessions", e.Sessions, "took", e.Took.String())
	}
	c.options.log.Log(context.Background(), level, message, attrs...)
	c.events.add(e)
}

func (s *Stats) record(e Event) {
	if e.Kind == KeyActivated {
		s.LastErr, s.LastErrAt = nil, time.Time{}
		s.ServingErr = nil
		return
	}
	s.LastErr, s.LastErrAt = e.Err, time.Now()
	if e.Fingerprint == s.CandidateFingerprint {
		s.CandidateErr = e.Err
	}
}

// maxEvents bounds the events that wait for the callback. The oldest are dropped first.
const maxEvents = 1000

// events is the queue of events for the callback.
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
	if len(e.queue) == maxEvents {
		e.queue = e.queue[1:]
	}
	e.queue = append(e.queue, event)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

func (e *events) drain() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.queue
	e.queue = nil
	return all
}

// deliver calls the callback for each event until ctx ends, and then for the events that are left.
func (e *events) deliver(ctx context.Context) {
	for last := false; !last; {
		select {
		case <-e.more:
		case <-ctx.Done():
			last = true
		}
		for _, event := range e.drain() {
			e.callback(event)
		}
	}
}
