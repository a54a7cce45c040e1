package snowkey

import (
	"fmt"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// Stats are the state and the counters of a [Connector], in the order of this struct: its keys, its sessions now, counts
// since [NewConnector], and errors. Fingerprints are as DESC USER prints them.
type Stats struct {
	ServingFingerprint   string // of the key for new logins
	CandidateFingerprint string // of a newer key that does not serve yet; empty if there is none

	OpenConnections    int // connections that database/sql has
	SpareSessions      int // sessions that are logged in and wait for a connection
	LoggingOutSessions int // sessions that log out in the background
	AsyncSessions      int // sessions without a connection, kept until their asynchronous statement ends

	Rotations        int64 // changes of the serving key
	Logins           int64 // that succeeded
	FailedLogins     int64 // including the refused ones
	RefusedLogins    int64 // that Snowflake refused because of the key
	ReplacedSessions int64 // that Snowflake had ended, and for which a statement got a new session without an error

	ServingErr   error // why Snowflake refused the serving key; nil if it did not, or has accepted it since
	CandidateErr error // why the last login with the candidate failed; nil before that

	LastErr   error     // of the last login that failed with any key; nil if there was none since the serving key changed
	LastErrAt time.Time // when LastErr was
}

// Health returns whether Snowflake accepted the keys at the last logins, without asking it: nil, [ErrServingKeyRefused] or
// [ErrCandidateRefused], both with Snowflake's error. Other failed logins, e.g. without a network, do not count.
func (c *Connector) Health() error {
	s := c.Stats()
	switch {
	case s.ServingErr != nil:
		return fmt.Errorf("%w (%s): %w", ErrServingKeyRefused, s.ServingFingerprint, s.ServingErr)
	case refused(s.CandidateErr):
		return fmt.Errorf("%w (%s): %w", ErrCandidateRefused, s.CandidateFingerprint, s.CandidateErr)
	}
	return nil
}

// Stats returns the state and the counters now. It asks neither Snowflake nor the file.
func (c *Connector) Stats() Stats {
	s := c.stats.snapshot()
	s.ServingFingerprint = c.pool.serving().Fingerprint()
	if s.CandidateFingerprint == s.ServingFingerprint {
		s.CandidateFingerprint, s.CandidateErr = "", nil
	}
	c.pool.count(&s)
	return s
}

// stats holds what is counted for Stats.
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
func (st *stats) replaced() { st.update(func(s *Stats) { s.ReplacedSessions++ }) }

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
		s.CandidateFingerprint, s.CandidateErr = "", nil
		if key != nil {
			s.CandidateFingerprint = key.Fingerprint()
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
