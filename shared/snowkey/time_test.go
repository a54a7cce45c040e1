package snowkey_test

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keywatch"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// inProcess hands the driver's requests to a server without a network, since waits for a network would stop
// simulated time. It reports to net/http/httptrace as a transport of net/http does.
type inProcess struct{ server http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GetConn(r.URL.Host)
		trace.GotConn(httptrace.GotConnInfo{})
		if trace.WroteHeaderField != nil {
			for name, values := range r.Header {
				trace.WroteHeaderField(name, values)
			}
		}
	}
	answer := httptest.NewRecorder()
	p.server.ServeHTTP(answer, r)
	return answer.Result(), r.Context().Err()
}

// onSimulatedTime runs a test in which hours take no time.
func onSimulatedTime(t *testing.T, test func(s *fixture, start starter)) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	for n := range keysInTurn + 1 {
		testkey.Key(n) // outside of simulated time, since making one takes long
	}
	synctest.Test(t, func(t *testing.T) {
		s := &fixture{t: t, snowflake: localsnowflake.New(localsnowflake.WithHistory(1 << 20)), path: path}
		s.snowflake.CreateUser("ETL")
		s.cfg = gosnowflake.Config{
			Account: "LOCAL", User: "ETL", Protocol: "http", Host: "localhost", Port: 80, Transporter: inProcess{s.snowflake},
		}
		s.publish(0)
		s.assign(1, 0)
		test(s, func(opts ...snowkey.Option) (*snowkey.Connector, *sql.DB) {
			return s.connector(append(opts, snowkey.WithoutEvents())...)
		})
	})
}

type starter func(opts ...snowkey.Option) (*snowkey.Connector, *sql.DB)

func TestRotation_PublicKeyAnHourLate(t *testing.T) {
	testenv.Slow(t)
	onSimulatedTime(t, func(s *fixture, start starter) {
		c, db := start()
		defer db.Close()
		s.publish(1)
		time.Sleep(time.Hour)
		s.expectServing(c, 0)
		var refused []localsnowflake.Login
		for _, login := range s.snowflake.Logins() {
			if login.Code != 0 {
				refused = append(refused, login)
			}
		}
		// The backoff is up to 30 seconds, half of that on average.
		if n := len(refused); n < 100 || n > 500 {
			s.t.Errorf("%d tries in an hour", n)
		}
		s.assign(2, 1)
		time.Sleep(snowkey.LongestBackoff + time.Second)
		s.expectServing(c, 1)
	})
}

func (s *fixture) expectServing(c *snowkey.Connector, n int) {
	s.t.Helper()
	if got, want := c.Stats().ServingFingerprint, testkey.Key(n).Fingerprint(); got != want {
		s.t.Errorf("serving %s, want %s", got, want)
	}
}

func TestMaxTokenAge_CountsFromLastRenewal(t *testing.T) {
	onSimulatedTime(t, func(s *fixture, start starter) {
		_, db := start()
		defer db.Close()
		s.expectKey(db, 0)
		for range 3 { // the driver renews the token each time, which then counts as new
			time.Sleep(snowkey.DefaultMaxTokenAge - time.Minute)
			s.expectKey(db, 0)
		}
		if n := s.snowflake.Counters(); n.LoginsAccepted != 1 || n.Renewals != 3 {
			s.t.Errorf("%+v", n)
		}
		time.Sleep(snowkey.DefaultMaxTokenAge + time.Minute)
		s.expectKey(db, 0)
		if n := s.snowflake.Counters(); n.LoginsAccepted != 2 || n.Renewals != 3 {
			s.t.Errorf("%+v", n)
		}
	})
}

func TestSpares_LogOutAfterAMinute(t *testing.T) {
	onSimulatedTime(t, func(s *fixture, start starter) {
		c, db := start()
		defer db.Close()
		s.expectKey(db, 0)
		s.assign(2, 1)
		s.publish(1)
		time.Sleep(keywatch.DefaultPollInterval + time.Second)
		if n := c.Stats().SpareSessions; n != 1 {
			s.t.Errorf("%d spare sessions after the activation", n)
		}
		time.Sleep(50 * time.Second)
		if n := c.Stats().SpareSessions; n != 1 {
			s.t.Errorf("%d spare sessions within the minute", n)
		}
		time.Sleep(10 * time.Second)
		if n := c.Stats().SpareSessions; n != 0 {
			s.t.Errorf("%d spare sessions after the minute", n)
		}
	})
}

// A refused statement has not run, even if the refusal took long.
func TestStatement_RefusedLateIsSentAgain(t *testing.T) {
	onSimulatedTime(t, func(s *fixture, start starter) {
		_, db := start()
		defer db.Close()
		s.expectKey(db, 0)
		var refused atomic.Bool
		s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
			if r.Statement == marked && refused.CompareAndSwap(false, true) {
				return &localsnowflake.Fault{Delay: 30 * time.Second, Code: 390111, Message: "session gone"}
			}
			return nil
		})
		if _, err := db.ExecContext(s.t.Context(), marked); err != nil {
			s.t.Error(err)
		}
		if n := s.executions(marked); n != 1 {
			s.t.Errorf("executed %d times", n)
		}
	})
}
