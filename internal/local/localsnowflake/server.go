// Package localsnowflake is a Snowflake account on a local HTTP endpoint. Tests, benchmarks, the demo and
// docker compose point unmodified Snowflake drivers, or the SQL API, at it instead of at Snowflake.
//
// It answers as Snowflake does where key-pair authentication can tell the difference: it really verifies
// the JWT, keeps two public keys and named key pairs for each user, changes them by ALTER USER, and gives out session tokens
// that expire, are renewed and can be ended. Latency and failures can be switched on while it runs.
//
// It never stores a table (rows that are inserted are counted and forgotten), never understands SQL beyond a
// handful of statements, never speaks TLS, and never talks to Snowflake. It is no place for a real key.
//
// With a SQL engine behind it there are tables: [WithEngine]. Logins, sessions, users and roles stay its own.
package localsnowflake

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultSessionValidity = time.Hour
	defaultMasterValidity  = 4 * time.Hour
	defaultInProgressAfter = 45 * time.Second
	defaultHistory         = 4096
)

// Server is the endpoint. It is an http.Handler, and safe for concurrent use. It needs to be closed only if it
// has a SQL engine.
type Server struct {
	account string
	version string
	clock   func() time.Time
	generic bool
	stages  string
	engine  *engine // nil: the account answers everything itself

	mux      *http.ServeMux
	users    users
	sessions sessions
	history  *history
	logins   *logins
	counters counters

	loginLatency    duration
	queryLatency    duration
	sessionValidity duration
	masterValidity  duration
	inProgressAfter duration
	clockOffset     duration
	hook            atomic.Pointer[func(Request) *Fault]
}

// Option configures a Server.
type Option func(*Server)

// WithAccount sets the account's name as login tokens have it; LOCAL without it.
func WithAccount(name string) Option { return func(s *Server) { s.account = strings.ToUpper(name) } }

// WithClock sets what JWTs, sessions and key pairs are judged by, and the Date of every answer; time.Now without
// it. Latencies stay real.
func WithClock(now func() time.Time) Option { return func(s *Server) { s.clock = now } }

// WithServerVersion sets what current_version() answers; 9.32.0 without it.
func WithServerVersion(version string) Option { return func(s *Server) { s.version = version } }

// WithGenericLoginErrors hides why a JWT is refused behind 390144, as many accounts do.
func WithGenericLoginErrors() Option { return func(s *Server) { s.generic = true } }

// WithHistory sets how many statements, and how many logins, are remembered; 4096 without it.
func WithHistory(n int) Option {
	return func(s *Server) { s.history, s.logins = newHistory(n), newLogins(n) }
}

// New returns an account without users.
func New(opts ...Option) *Server {
	s := &Server{
		account: "LOCAL",
		version: "9.32.0",
		clock:   time.Now,
		users:   users{byName: map[string]user{}, byLogin: map[string]string{}, roles: map[string]bool{}},
		history: newHistory(defaultHistory),
		logins:  newLogins(defaultHistory),
	}
	for _, opt := range opts {
		opt(s)
	}
	clock := s.clock
	s.clock = func() time.Time { return clock().Add(s.clockOffset.get()) }
	s.sessions = newSessions(s.clock())
	s.SetSessionValidity(defaultSessionValidity, defaultMasterValidity)
	s.SetInProgressAfter(defaultInProgressAfter)
	s.mux = s.routes()
	return s
}

// ServeHTTP answers drivers and the SQL API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.clock().UTC().Format(http.TimeFormat))
	s.mux.ServeHTTP(w, r)
}

// SetClockOffset sets how far the account's clock is ahead, or behind if it is negative.
func (s *Server) SetClockOffset(d time.Duration) { s.clockOffset.set(d) }

// SetLoginLatency makes every login take d longer.
func (s *Server) SetLoginLatency(d time.Duration) { s.loginLatency.set(d) }

// SetQueryLatency makes every statement take d longer.
func (s *Server) SetQueryLatency(d time.Duration) { s.queryLatency.set(d) }

// SetSessionValidity sets how long the tokens of sessions that are opened or renewed from now on are
// valid. Clients are told in whole seconds.
func (s *Server) SetSessionValidity(session, master time.Duration) {
	s.sessionValidity.set(session)
	s.masterValidity.set(master)
}

// SetInProgressAfter sets how long a client waits for a statement before it is told to poll for the
// result; 45 seconds at first, as in Snowflake.
func (s *Server) SetInProgressAfter(d time.Duration) { s.inProgressAfter.set(d) }

// duration is a knob that may be turned while requests are answered.
type duration struct{ nanoseconds atomic.Int64 }

func (d *duration) set(to time.Duration) { d.nanoseconds.Store(int64(to)) }
func (d *duration) get() time.Duration   { return time.Duration(d.nanoseconds.Load()) }
func (d *duration) seconds() int64       { return int64(d.get() / time.Second) }
