package snowkey

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// Stats are the counters and the state of a [Connector]. Fingerprints are as DESC USER prints them.
type Stats struct {
	Serving   string // fingerprint of the key for new logins
	Candidate string // fingerprint of a newer key that does not serve yet; empty if there is none

	Open         int // connections that database/sql has
	Spare        int // sessions that are logged in for connections to come
	LoggingOut   int // sessions on their way out, in the background
	KeptForAsync int // sessions whose connection is gone, kept until their asynchronous statement ends

	Rotations     int64 // changes of the serving key
	Logins        int64 // that succeeded
	FailedLogins  int64 // including the refused ones
	RefusedLogins int64 // that Snowflake refused because of the key
	Heals         int64 // sessions that Snowflake had ended, and that were replaced without an error

	ServingErr   error // why Snowflake refused the serving key; nil if it did not, or has accepted it since
	CandidateErr error // why the candidate did not serve after its last try; nil before that

	LastError   error // of a key; nil if there was none since the last change of the serving key
	LastErrorAt time.Time
}

// Errors of [Connector.Health].
var (
	// ErrServingKeyRefused means that new connections fail.
	ErrServingKeyRefused = errors.New("snowkey: Snowflake refuses the serving key, and new connections fail: assign its public key to the user, or put a key into the file that is assigned")

	// ErrCandidateRefused means that the pool works with the serving key, and that Snowflake does not accept
	// the new one. Do not remove the public key of the serving one before it does.
	ErrCandidateRefused = errors.New("snowkey: Snowflake does not accept the new key, and the serving key is kept: assign the public key of the new one to the user")
)

// Health reports what Snowflake said of the keys at the last logins, without asking it: nil, an
// [ErrServingKeyRefused] with Snowflake's error, or an [ErrCandidateRefused] with Snowflake's error.
func (c *Connector) Health() error {
	s := c.Stats()
	switch {
	case s.ServingErr != nil:
		return fmt.Errorf("%w (%s): %w", ErrServingKeyRefused, s.Serving, s.ServingErr)
	case refused(s.CandidateErr):
		return fmt.Errorf("%w (%s): %w", ErrCandidateRefused, s.Candidate, s.CandidateErr)
	}
	return nil
}

// Stats returns a snapshot.
func (c *Connector) Stats() Stats {
	s := c.stats.snapshot()
	s.Serving = c.pool.serving().Fingerprint()
	if s.Candidate == s.Serving {
		s.Candidate, s.CandidateErr = "", nil
	}
	c.pool.count(&s)
	return s
}

// stats records what Stats tells.
type stats struct {
	mu sync.Mutex
	s  Stats
}

func (st *stats) snapshot() Stats {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.s
}

func (st *stats) update(f func(*Stats)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.s)
}

func (st *stats) rotated()  { st.update(func(s *Stats) { s.Rotations++ }) }
func (st *stats) loggedIn() { st.update(func(s *Stats) { s.Logins++ }) }
func (st *stats) healed()   { st.update(func(s *Stats) { s.Heals++ }) }

func (st *stats) loginFailed(refused bool) {
	st.update(func(s *Stats) {
		s.FailedLogins++
		if refused {
			s.RefusedLogins++
		}
	})
}

// setCandidate notes a new candidate; nil is none.
func (st *stats) setCandidate(key *keyfile.Key) {
	st.update(func(s *Stats) {
		s.Candidate, s.CandidateErr = "", nil
		if key != nil {
			s.Candidate = key.Fingerprint()
		}
	})
}

func (c *Connector) servingAccepted(key *keyfile.Key) {
	c.stats.update(func(s *Stats) {
		if same(key, c.pool.serving()) {
			s.ServingErr = nil
		}
	})
}
