package localsnowflake

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Login is one JWT that was judged, to open a session or in the SQL API.
type Login struct {
	Time        time.Time
	Endpoint    string // EndpointLogin, or one of the SQL API's
	User        string // as the JWT claims
	Fingerprint string // as the JWT claims
	Code        Code   // why it was refused, even if the client was told only 390144; 0 if it was accepted
	SessionID   int64  // of the session it opened
}

// Session is a session that can still be used, if need be after a renewal of its token.
type Session struct {
	ID            int64
	User          string
	Fingerprint   string // of the key that opened it
	OpenedAt      time.Time
	Role          string
	Warehouse     string
	Database      string
	Schema        string
	InTransaction bool
}

// Counters only ever grow.
type Counters struct {
	LoginsAccepted     int64 // of sessions
	LoginsRefused      int64
	TokensAccepted     int64 // of the SQL API
	TokensRefused      int64
	StatementsExecuted int64
	Renewals           int64
	Heartbeats         int64
	SessionsClosed     int64 // by their clients
}

type counters struct {
	loginsAccepted, loginsRefused atomic.Int64
	tokensAccepted, tokensRefused atomic.Int64
	statements                    atomic.Int64
	renewals, heartbeats          atomic.Int64
	sessionsClosed                atomic.Int64
}

// Counters returns the counters as they are now. It costs next to nothing.
func (s *Server) Counters() Counters {
	c := &s.counters
	return Counters{
		LoginsAccepted:     c.loginsAccepted.Load(),
		LoginsRefused:      c.loginsRefused.Load(),
		TokensAccepted:     c.tokensAccepted.Load(),
		TokensRefused:      c.tokensRefused.Load(),
		StatementsExecuted: c.statements.Load(),
		Renewals:           c.renewals.Load(),
		Heartbeats:         c.heartbeats.Load(),
		SessionsClosed:     c.sessionsClosed.Load(),
	}
}

// logins are the latest ones, and how many there were of each kind.
type logins struct {
	mu     sync.Mutex
	ring   []Login
	total  int
	counts map[loginKind]int
}

type loginKind struct {
	fingerprint string
	code        Code
}

// maxLoginKinds bounds what clients with invented fingerprints can make the server remember.
const maxLoginKinds = 4096

func newLogins(n int) *logins {
	return &logins{ring: make([]Login, 0, max(n, 1)), counts: map[loginKind]int{}}
}

func (l *logins) add(login Login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, login)
	} else {
		l.ring[l.total%len(l.ring)] = login
	}
	l.total++
	kind := loginKind{login.Fingerprint, login.Code}
	if _, known := l.counts[kind]; known || len(l.counts) < maxLoginKinds {
		l.counts[kind]++
	}
}

// record notes how a JWT was judged.
func (s *Server) record(c *call, code Code) {
	accepted, refused := &s.counters.tokensAccepted, &s.counters.tokensRefused
	if c.Endpoint == EndpointLogin {
		accepted, refused = &s.counters.loginsAccepted, &s.counters.loginsRefused
	}
	if code == 0 {
		accepted.Add(1)
	} else {
		refused.Add(1)
	}
	s.logins.add(Login{
		Time: s.clock(), Endpoint: c.Endpoint, User: c.User, Fingerprint: c.Fingerprint, Code: code, SessionID: c.SessionID,
	})
}

// Logins returns the latest logins, oldest first.
func (s *Server) Logins() []Login {
	l := s.logins
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := 0
	if len(l.ring) == cap(l.ring) {
		oldest = l.total % len(l.ring)
	}
	return slices.Concat(l.ring[oldest:], l.ring[:oldest])
}

// LoginCount returns how many JWTs with the fingerprint were refused for the code, or accepted if it is 0.
func (s *Server) LoginCount(fingerprint string, code Code) int {
	s.logins.mu.Lock()
	defer s.logins.mu.Unlock()
	return s.logins.counts[loginKind{fingerprint, code}]
}

// Sessions returns the open sessions, oldest first.
func (s *Server) Sessions() []Session {
	var open []Session
	now := s.clock()
	for _, opened := range s.sessions.all() {
		if opened.isOpen(now) {
			open = append(open, opened.snapshot())
		}
	}
	slices.SortFunc(open, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	return open
}

func (s *session) snapshot() Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Session{
		ID:            s.id,
		User:          s.user,
		Fingerprint:   s.fingerprint,
		OpenedAt:      s.openedAt,
		Role:          s.context.Role,
		Warehouse:     s.context.Warehouse,
		Database:      s.context.Database,
		Schema:        s.context.Schema,
		InTransaction: s.inTransaction,
	}
}

// EndSessions ends the sessions with the ids, or all of them if there is no id. Their next use is answered
// with the code. After 390112 a client can renew the session. After 390113, 390114 or 390115 the next use
// is answered with 390112 and the renewal with the code.
func (s *Server) EndSessions(code Code, ids ...int64) {
	for _, opened := range s.sessions.all() {
		if len(ids) == 0 || slices.Contains(ids, opened.id) {
			opened.end(code)
		}
	}
}
