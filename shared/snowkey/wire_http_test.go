package snowkey_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// overHTTP makes the driver use one version of HTTP, and returns the versions that the server has seen.
func (s *fixture) overHTTP(version string) *sync.Map {
	var seen sync.Map
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Proto, true)
		s.snowflake.ServeHTTP(w, r)
	}))
	var protocols http.Protocols
	protocols.SetHTTP1(version == "HTTP/1.1")
	protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
	endpoint.Config.Protocols = &protocols
	endpoint.Start()
	s.t.Cleanup(endpoint.Close)
	u, err := url.Parse(endpoint.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cfg.Port, _ = strconv.Atoi(u.Port())
	transport := &http.Transport{Protocols: &protocols}
	s.t.Cleanup(transport.CloseIdleConnections)
	s.cfg.Transporter = transport
	return &seen
}

// once answers the first request that matches with a fault.
func once(matches func(localsnowflake.Request) bool, fault localsnowflake.Fault) func(localsnowflake.Request) *localsnowflake.Fault {
	var done atomic.Bool
	return func(r localsnowflake.Request) *localsnowflake.Fault {
		if matches(r) && done.CompareAndSwap(false, true) {
			return &fault
		}
		return nil
	}
}

// redirect points to the same Snowflake.
func (s *fixture) redirect() *localsnowflake.Fault {
	return localsnowflake.RedirectTo(fmt.Sprintf("http://%s:%d", s.cfg.Host, s.cfg.Port), http.StatusTemporaryRedirect)
}

func isMarked(r localsnowflake.Request) bool { return r.Statement == marked }

// Each case is what happens to one statement, and whether its caller gets a result. The statement never runs twice.
func TestStatement_EndedSession(t *testing.T) {
	t.Parallel()
	ended := localsnowflake.Fault{Code: 390111, Message: "session gone"}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, c := range []struct {
			name   string
			happen func(s *fixture)
			runs   int
			fails  bool
		}{
			{"accepted", func(*fixture) {}, 1, false},
			{"refused", func(s *fixture) { s.snowflake.Intercept(once(isMarked, ended)) }, 1, false},
			{"refused after more than a second", func(s *fixture) {
				late := ended
				late.Delay = 1100 * time.Millisecond
				s.snowflake.Intercept(once(isMarked, late))
			}, 1, false},
			{"redirected, accepted", func(s *fixture) { s.snowflake.Intercept(once(isMarked, *s.redirect())) }, 1, false},
			{"redirected, refused", func(s *fixture) {
				var requests atomic.Int32
				s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
					switch {
					case !isMarked(r):
						return nil
					case requests.Add(1) == 1:
						return s.redirect()
					case requests.Load() == 2:
						return &ended
					}
					return nil
				})
			}, 0, true}, // two requests were sent, so it may have run
			{"expired, renewed, accepted", func(s *fixture) { s.snowflake.EndSessions(390112) }, 1, false},
			{"expired, renewed, refused", func(s *fixture) {
				s.snowflake.EndSessions(390112)
				var requests atomic.Int32
				s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
					if isMarked(r) && requests.Add(1) == 2 {
						return &ended
					}
					return nil
				})
			}, 1, false},
			{"expired, not renewed", func(s *fixture) { s.snowflake.EndSessions(390114) }, 1, false},
			{"accepted, polled", func(s *fixture) {
				s.snowflake.SetInProgressAfter(10 * time.Millisecond)
				s.snowflake.SetQueryLatency(100 * time.Millisecond)
			}, 1, false},
			{"accepted, polled, refused", func(s *fixture) {
				s.snowflake.SetInProgressAfter(10 * time.Millisecond)
				s.snowflake.SetQueryLatency(100 * time.Millisecond)
				s.snowflake.Intercept(once(func(r localsnowflake.Request) bool { return r.Endpoint == localsnowflake.EndpointResult }, ended))
			}, 1, true},
			{"answer lost, resent, refused", func(s *fixture) {
				var requests atomic.Int32
				s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
					switch {
					case !isMarked(r):
						return nil
					case requests.Add(1) == 1:
						return &localsnowflake.Fault{After: true, Drop: true}
					default:
						return &ended
					}
				})
			}, 1, true},
		} {
			t.Run(version+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				s := newFixture(t)
				seen := s.overHTTP(version)
				_, db := s.connector()
				s.expectKey(db, 0)
				c.happen(s)
				_, err := db.ExecContext(t.Context(), marked)
				if (err != nil) != c.fails {
					t.Errorf("error %v", err)
				}
				eventually(t, "the statement ends", func() bool { return s.executions(marked) >= c.runs })
				if n := s.executions(marked); n != c.runs {
					t.Errorf("executed %d times", n)
				}
				s.snowflake.Intercept(nil)
				s.expectKey(db, 0)
				seen.Range(func(proto, _ any) bool {
					if proto != version {
						t.Errorf("a request came over %v", proto)
					}
					return true
				})
			})
		}
	}
}

// silent is a transport that does not report to net/http/httptrace.
type silent struct{ http.RoundTripper }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	return s.RoundTripper.RoundTrip(r.Clone(context.WithoutCancel(context.Background())))
}

func TestStatement_SilentTransportIsNotTrusted(t *testing.T) {
	s := newFixture(t)
	s.cfg.Transporter = silent{http.DefaultTransport}
	_, db := s.connector()
	s.expectKey(db, 0)
	s.snowflake.Intercept(once(isMarked, localsnowflake.Fault{Code: 390111, Message: "session gone"}))
	if _, err := db.ExecContext(t.Context(), marked); err == nil {
		t.Error("sent again")
	}
	s.expectKey(db, 0)
}

// The driver fetches by ID only in Query and a prepared Query. With the same context, all other calls send their text.
func TestFetchResultByID_StatementsThatSendTheirText(t *testing.T) {
	t.Parallel()
	for way, run := range waysToSend {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newFixture(t)
			_, db := s.connector()
			if _, err := db.ExecContext(t.Context(), "SELECT 'earlier'"); err != nil {
				t.Fatal(err)
			}
			ctx := gosnowflake.WithFetchResultByID(t.Context(), s.idOf("SELECT 'earlier'"))
			s.snowflake.SetInProgressAfter(10 * time.Millisecond)
			s.snowflake.SetQueryLatency(100 * time.Millisecond)
			s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Endpoint == localsnowflake.EndpointResult {
					return &localsnowflake.Fault{Code: 390111, Message: "session gone", Delay: 150 * time.Millisecond}
				}
				return nil
			})
			_ = run(ctx, db, marked)
			s.snowflake.Intercept(nil)
			if n := s.executions(marked); n > 1 {
				t.Errorf("executed %d times", n)
			}
		})
	}
}

// A renewal by an asynchronous statement of the same session, while a statement is accepted, proves nothing
// about that one.
func TestStatement_RenewalByAnotherGoroutine(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	db.SetMaxOpenConns(1)
	s.snowflake.SetInProgressAfter(20 * time.Millisecond)
	if _, err := db.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(20)"); err != nil {
		t.Fatal(err)
	}
	renewing, sent := make(chan struct{}), make(chan struct{})
	var renewals, requests, polls atomic.Int64
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		switch {
		case r.Endpoint == localsnowflake.EndpointRenew && renewals.Add(1) == 1:
			close(renewing)
			<-sent
		case isMarked(r) && requests.Add(1) == 1:
			close(sent)
		case r.Endpoint == localsnowflake.EndpointResult && renewals.Load() > 0 && polls.Add(1) == 2:
			return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
		}
		return nil
	})
	s.snowflake.EndSessions(390112)
	<-renewing
	s.snowflake.SetQueryLatency(50 * time.Millisecond)
	_, _ = db.ExecContext(t.Context(), marked)
	if n := s.executions(marked); n > 1 {
		t.Errorf("executed %d times", n)
	}
}

// The driver tries to cancel a statement whose answer does not come in time. That the session has ended is then
// the answer to that attempt: the statement may have run.
func TestStatement_CancelIsRefused(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.cfg.ClientTimeout = time.Second  //nolint:staticcheck // nothing else sets it
	s.cfg.RequestTimeout = time.Second //nolint:staticcheck // nothing else sets it
	_, db := s.connector()
	s.expectKey(db, 0)
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		switch {
		case isMarked(r):
			return &localsnowflake.Fault{After: true, Delay: 3 * time.Second}
		case r.Endpoint == localsnowflake.EndpointAbort:
			return &localsnowflake.Fault{Code: 390111, Message: "session gone"}
		}
		return nil
	})
	_, err := db.ExecContext(t.Context(), marked)
	s.snowflake.Intercept(nil)
	if err == nil || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("error %v", err)
	}
	if n := s.executions(marked); n > 1 {
		t.Errorf("executed %d times", n)
	}
}

// A sql.Conn does not get another session after a statement that may have run.
func TestStatement_SQLConnKeepsItsSession(t *testing.T) {
	s := newFixture(t)
	_, db := s.connector()
	conn := hold(t, db, 1)[0]
	defer conn.Close()
	s.snowflake.SetInProgressAfter(10 * time.Millisecond)
	s.snowflake.SetQueryLatency(100 * time.Millisecond)
	s.snowflake.Intercept(once(func(r localsnowflake.Request) bool { return r.Endpoint == localsnowflake.EndpointResult },
		localsnowflake.Fault{Code: 390111, Message: "session gone"}))
	if _, err := conn.ExecContext(t.Context(), marked); err == nil {
		t.Fatal("no error")
	}
	s.snowflake.EndSessions(390111)
	if _, err := conn.ExecContext(t.Context(), "SELECT 2"); err == nil {
		t.Error("the next statement ran on another session")
	}
}
