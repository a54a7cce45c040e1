package snowkey_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// slowKey makes the logins of one key late.
func (s *setting) slowKey(n int, d time.Duration) {
	fp := testkey.Key(n).Fingerprint()
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && r.Fingerprint == fp {
			return &localsnowflake.Fault{Delay: d}
		}
		return nil
	})
}

// A query whose login was refused logs in with key 1 from the file, slowly; meanwhile key 2 is published and
// adopted. The query must not make key 1 the serving key again.
func TestARescueNeverGoesBackToAnOlderKey(t *testing.T) {
	s := newSetting(t)
	c, db := s.connector(snowkey.WithPollInterval(50 * time.Millisecond))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.slowKey(1, time.Second)
	s.assign(1, 1) // key 0 is revoked
	s.assign(2, 2)
	s.publish(1)
	var asked sync.WaitGroup
	asked.Go(func() {
		if _, err := query(context.Background(), db); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(200 * time.Millisecond)
	s.publish(2)
	eventually(t, "key 2", func() bool { return c.Stats().Serving == testkey.Key(2).Fingerprint() })
	time.Sleep(200 * time.Millisecond)
	asked.Wait()
	time.Sleep(200 * time.Millisecond) // more than a poll
	if got := c.Stats().Serving; got != testkey.Key(2).Fingerprint() {
		t.Errorf("serving the older key %s; the file holds %s: %+v", got, testkey.Key(2).Fingerprint(), c.Stats())
	}
}

// One change of the key is one rotation and one event, however many queries find it.
func TestARescueIsOneRotation(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	var adopted atomic.Int64
	c, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithEvents(func(e snowkey.Event) {
		if e.Kind == snowkey.Adopted {
			adopted.Add(1)
		}
	}))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	before := adopted.Load()
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().Refusals >= 4 })
	s.snowflake.SetLoginLatency(100 * time.Millisecond)
	s.assign(1, 1)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := query(context.Background(), db); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	eventually(t, "the rotation", func() bool { return c.Stats().Rotations > 0 && adopted.Load() > before })
	if st := c.Stats(); st.Rotations != 1 || adopted.Load()-before != 1 {
		t.Errorf("%d rotations, %d events", st.Rotations, adopted.Load()-before)
	}
}

// That the serving key is no longer accepted is what an operator most wants to be told.
func TestARevokedServingKeyIsReported(t *testing.T) {
	s := newSetting(t)
	events := make(chan snowkey.Event, 10)
	c, db := s.connector(snowkey.WithEvents(func(e snowkey.Event) { events <- e }))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	<-events
	s.assign(1, 1) // key 0 is out, and the file still holds it
	if _, err := query(t.Context(), db); err == nil {
		t.Fatal("no error")
	}
	if st := c.Stats(); st.LastError == nil {
		t.Errorf("no last error: %+v", st)
	}
	select {
	case e := <-events:
		t.Log(e)
	case <-time.After(time.Second):
		t.Error("no event")
	}
}

// A candidate's refusal is expected, whoever tries it.
func TestARescueThatIsRefusedIsQuiet(t *testing.T) {
	s := newSetting(t)
	var log syncBuffer
	driverLogsTo(t, &log)
	c, db := s.connector()
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.publish(1)
	eventually(t, "a refusal", func() bool { return c.Stats().Candidate == testkey.Key(1).Fingerprint() && c.Stats().Refusals > 1 })
	s.assign(1, 2) // neither is accepted
	before, refusals := len(log.String()), c.Stats().Refusals
	_, _ = query(t.Context(), db)
	// One of the serving key, one of the candidate; the driver complains in two lines, of the first only.
	if n := c.Stats().Refusals - refusals; n > 2 {
		t.Errorf("one query made %d logins", n)
	}
	if lines := strings.Count(log.String()[before:], "\n"); lines > 2 {
		t.Errorf("%d lines:\n%s", lines, log.String()[before:])
	}
}

// WithEvents: "from one goroutine ... the next rotation waits for it, queries do not".
func TestQueriesDoNotWaitForTheEventCallback(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	const slow = 2 * time.Second
	var started atomic.Bool
	c, db := s.connector(snowkey.WithPollInterval(time.Hour), snowkey.WithEvents(func(e snowkey.Event) {
		if e.Kind == snowkey.Adopted && started.Load() {
			time.Sleep(slow)
		}
	}))
	db.SetMaxIdleConns(0)
	s.expectKey(db, 0)
	s.publish(1)
	eventually(t, "refusals", func() bool { return c.Stats().Refusals >= 4 })
	started.Store(true)
	s.assign(1, 1)
	began := time.Now()
	if _, err := query(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took >= slow {
		t.Errorf("a query took %v", took)
	}
}
