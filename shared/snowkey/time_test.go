package snowkey_test

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keywatch"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// inProcess hands the driver's requests to a server without a network, whose waits would hold simulated
// time.
type inProcess struct{ server http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	p.server.ServeHTTP(answer, r)
	return answer.Result(), r.Context().Err()
}

// onSimulatedTime runs a test in which hours pass at once.
func onSimulatedTime(t *testing.T, test func(s *setting, start starter)) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	for n := range keysInTurn + 1 {
		testkey.Key(n) // made outside, since that takes as long as it takes
	}
	synctest.Test(t, func(t *testing.T) {
		s := &setting{t: t, snowflake: localsnowflake.New(localsnowflake.WithHistory(1 << 20)), path: path}
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

func TestAPublicKeyThatComesAnHourLate(t *testing.T) {
	onSimulatedTime(t, func(s *setting, start starter) {
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
		// Pauses of up to 30 seconds, half of that on average.
		if n := len(refused); n < 100 || n > 500 {
			s.t.Errorf("%d tries in an hour", n)
		}
		s.assign(2, 1)
		time.Sleep(snowkey.LongestPause + time.Second)
		s.expectServing(c, 1)
	})
}

func (s *setting) expectServing(c *snowkey.Connector, n int) {
	s.t.Helper()
	if got, want := c.Stats().Serving, testkey.Key(n).Fingerprint(); got != want {
		s.t.Errorf("serving %s, want %s", got, want)
	}
}

func TestASessionIsNotUsedWhenItsTokensAreAboutToEnd(t *testing.T) {
	onSimulatedTime(t, func(s *setting, start starter) {
		_, db := start()
		defer db.Close()
		s.expectKey(db, 0)
		for range 3 { // its token is renewed each time, and counts as new
			time.Sleep(snowkey.DefaultMaxIdle - time.Minute)
			s.expectKey(db, 0)
		}
		if n := s.snowflake.Counters(); n.LoginsAccepted != 1 || n.Renewals != 3 {
			s.t.Errorf("%+v", n)
		}
		time.Sleep(snowkey.DefaultMaxIdle + time.Minute)
		s.expectKey(db, 0)
		if n := s.snowflake.Counters(); n.LoginsAccepted != 2 || n.Renewals != 3 {
			s.t.Errorf("%+v", n)
		}
	})
}

func TestSessionsSetAsideGoAfterAMinute(t *testing.T) {
	onSimulatedTime(t, func(s *setting, start starter) {
		c, db := start()
		defer db.Close()
		s.expectKey(db, 0)
		s.assign(2, 1)
		s.publish(1)
		time.Sleep(keywatch.DefaultPollInterval + time.Second)
		if n := c.Stats().SetAside; n != 1 {
			s.t.Errorf("%d set aside after the switch", n)
		}
		time.Sleep(50 * time.Second)
		if n := c.Stats().SetAside; n != 1 {
			s.t.Errorf("%d set aside within the minute", n)
		}
		time.Sleep(10 * time.Second)
		if n := c.Stats().SetAside; n != 0 {
			s.t.Errorf("%d set aside after the minute", n)
		}
	})
}

// The driver sends a request again by itself after a second at the earliest, and an answer to the first
// may have been lost. What is refused after that may have run.
func TestWhatIsRefusedAfterASecondMayHaveRun(t *testing.T) {
	for refusedAfter, wantErr := range map[time.Duration]bool{900 * time.Millisecond: false, 1100 * time.Millisecond: true} {
		onSimulatedTime(t, func(s *setting, start starter) {
			_, db := start()
			defer db.Close()
			s.expectKey(db, 0)
			var refused atomic.Bool
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Statement == marked && refused.CompareAndSwap(false, true) {
					return &localsnowflake.Fault{Delay: refusedAfter, Code: 390111, Message: "session gone"}
				}
				return nil
			})
			if _, err := db.ExecContext(s.t.Context(), marked); (err != nil) != wantErr {
				s.t.Errorf("refused after %v: error %v", refusedAfter, err)
			}
		})
	}
}
