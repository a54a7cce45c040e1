package snowkey_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/shared/snowkey"
)

// After Close there is nothing left: no goroutine, no descriptor, no session.
func TestAfterCloseNothingIsLeft(t *testing.T) {
	for name, during := range map[string]func(s *setting, c *snowkey.Connector){
		"at rest": func(*setting, *snowkey.Connector) {},
		"during a rotation": func(s *setting, c *snowkey.Connector) {
			s.snowflake.SetLoginLatency(300 * time.Millisecond)
			s.assign(2, 1)
			s.publish(1)
			eventually(s.t, "a candidate", func() bool { return c.Stats().Candidate != "" })
		},
		"while a candidate is refused": func(s *setting, c *snowkey.Connector) {
			s.publish(1)
			eventually(s.t, "a refusal", func() bool { return c.Stats().Refusals > 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t)
			// The test's own server, and what the driver starts once for the whole program.
			first := s.open()
			s.expectKey(first, 0)
			first.Close()
			before, descriptors := goleak.IgnoreCurrent(), openDescriptors(t)

			c, db := s.connector()
			db.SetMaxIdleConns(4)
			l := startLoad(t, db, 4)
			eventually(t, "4 connections", func() bool { return c.Stats().Open >= 4 })
			l.end()
			during(s, c)
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			goleak.VerifyNone(t, before, serverSide)
			eventually(t, "no descriptor left", func() bool { return openDescriptors(t) <= descriptors })
			// A login that Close cut off can be a session that its client never heard of.
			if left := s.snowflake.Sessions(); len(left) > 0 && name != "during a rotation" {
				t.Errorf("sessions left: %+v", left)
			}
		})
	}
}

// serverSide are the goroutines of the test's HTTP server, one for each connection that is going away.
var serverSide = goleak.IgnoreAnyFunction("net/http.(*conn).serve")

func openDescriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc, which only Linux has")
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestOpenThatFailsLeavesNothing(t *testing.T) {
	s := newSetting(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	open := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := snowkey.Open(ctx, s.path, s.cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	}
	open()
	before := goleak.IgnoreCurrent()
	open()
	goleak.VerifyNone(t, before, serverSide)
}
