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
	reporting sync.Mutex
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

func (c *Connector) report(e Event) {
	c.counts.reporting.Lock()
	defer c.counts.reporting.Unlock()
	level, message := slog.LevelWarn, "key not adopted, serving key kept"
	if e.Kind == Adopted {
		level, message = slog.LevelInfo, "key adopted"
		c.counts.lastError.Store(nil)
	} else {
		c.counts.lastError.Store(&timedError{e.Err, time.Now()})
	}
	attrs := []any{"kind", string(e.Kind), "fingerprint", e.Fingerprint}
	if e.Err != nil {
		attrs = append(attrs, "error", e.Err.Error())
	} else {
		attrs = append(attrs, "connections", e.Connections, "took", e.Took.String())
	}
	c.options.log.Log(context.Background(), level, message, attrs...)
	if c.options.event != nil {
		c.options.event(e)
	}
}
