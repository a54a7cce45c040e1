package snowkey_test

import (
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestSpares_NextRotationLogsOutUnused(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	c, db := s.withSpares(8)
	s.assign(1, 2)
	s.publish(2)
	eventually(t, "the next rotation", func() bool { return c.Stats().Rotations == 2 })
	eventually(t, "no session but those of the newest key", func() bool { return s.sessionsOf(1) == 0 && s.sessionsOf(0) == 0 })
	db.Close()
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
}

func TestSpares_LogOutAfterTTL(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, db := s.withSpares(4, snowkey.WithSpareTTL(300*time.Millisecond))
	eventually(t, "no session", func() bool { return c.Stats().SpareSessions == 0 && len(s.snowflake.Sessions()) == 0 })
	s.expectKey(db, 1)
}

// A spare session can end like any other. The query that gets it must not fail.
func TestSpares_EndedSpareIsReplaced(t *testing.T) {
	s := newFixture(t)
	_, db := s.withSpares(4)
	s.snowflake.EndSessions(390111)
	l := startLoad(t, db, 8)
	eventually(t, "queries", func() bool { return l.queries.Load() > 50 })
}

// Unused spare sessions log out even if Snowflake refuses the next candidate.
func TestSpares_LogOutWhileCandidateIsRefused(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	c, _ := s.withSpares(4, snowkey.WithSpareTTL(300*time.Millisecond))
	s.publish(2) // never assigned
	eventually(t, "a refusal", func() bool { return c.Stats().RefusedLogins > 0 })
	eventually(t, "no spare session", func() bool { return c.Stats().SpareSessions == 0 })
}
