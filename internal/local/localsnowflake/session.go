package localsnowflake

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"time"
)

// session is what a login opens. user, fingerprint and the like never change; mu guards the rest.
type session struct {
	id          int64
	user        string
	fingerprint string
	openedAt    time.Time
	autocommit  bool // as the client asked for when it logged in
	noArrow     bool // the client reads results in JSON only

	mu            sync.Mutex
	token         string
	formerToken   string // the one before the last renewal
	expires       time.Time
	master        string
	masterExpires time.Time
	ended         Code // how every use is answered from now on
	masterEnded   Code // how a renewal is answered from now on
	context       sessionContext
	inTransaction bool
	engine        *engineSession
	putStage      *string // of the last PUT that had it in a binding
}

// sessionContext is what USE changes.
type sessionContext struct {
	Database  string `json:"databaseName"`
	Schema    string `json:"schemaName"`
	Warehouse string `json:"warehouseName"`
	Role      string `json:"roleName"`
}

// grant is the tokens that a login or a renewal gives out.
type grant struct {
	token  string
	master string
}

// newGrant names the session in its tokens, as Snowflake does, so that they need no index.
func (s *session) newGrant() grant {
	hint := strconv.FormatInt(s.id, 10)
	return grant{
		token:  "ver:3-hint:" + hint + "-ETMsDgAAA" + rand.Text(),
		master: "ver:3-hint:" + hint + "-ETMsDgAAB" + rand.Text(),
	}
}

// hinted returns the session id in a token.
func hinted(token string) int64 {
	_, rest, _ := strings.Cut(token, "-hint:")
	hint, _, _ := strings.Cut(rest, "-")
	id, _ := strconv.ParseInt(hint, 10, 64)
	return id
}

// check returns why the session token is refused, or 0.
func (s *session) check(token string, now time.Time) Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case token != s.token && token != s.formerToken:
		return SessionTokenInvalid
	case s.ended != 0:
		return s.ended
	case token != s.token || !now.Before(s.expires):
		return SessionExpired
	}
	return 0
}

// renew returns new tokens for a master token, or why it is refused.
func (s *session) renew(master string, now time.Time, validity, masterValidity time.Duration) (grant, Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case master != s.master:
		return grant{}, MasterTokenInvalid
	case s.ended != 0:
		return grant{}, s.ended
	case s.masterEnded != 0:
		return grant{}, s.masterEnded
	case !now.Before(s.masterExpires):
		return grant{}, MasterTokenExpired
	}
	s.formerToken = s.token
	return s.accept(now, validity, masterValidity), 0
}

func (s *session) accept(now time.Time, validity, masterValidity time.Duration) grant {
	tokens := s.newGrant()
	s.token, s.expires = tokens.token, now.Add(validity)
	s.master, s.masterExpires = tokens.master, now.Add(masterValidity)
	return tokens
}

// end ends the session, or only its tokens if the code is about those.
func (s *session) end(code Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch code {
	case SessionExpired:
		s.expires = time.Time{}
	case MasterTokenNotFound, MasterTokenExpired, MasterTokenInvalid:
		s.expires, s.masterEnded = time.Time{}, code
	default:
		s.ended = code
	}
}

// isOpen tells whether the session can still be used, if need be after a renewal.
func (s *session) isOpen(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	renewable := s.masterEnded == 0 && now.Before(s.masterExpires)
	return s.ended == 0 && (renewable || now.Before(s.expires))
}

func (s *session) update(change func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *session) currentContext() sessionContext {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.context
}

// sessions are all sessions that were opened and not closed. Ended ones stay, to be answered with their code.
type sessions struct {
	mu      sync.RWMutex
	byID    map[int64]*session
	firstID int64
	nextID  int64
	sweepAt int
}

const firstSweep = 1024

// newSessions numbers sessions from the time on, so that one process does not know the ids of another.
func newSessions(now time.Time) sessions {
	first := now.UnixMilli() * 1000
	return sessions{byID: map[int64]*session{}, firstID: first, nextID: first, sweepAt: firstSweep}
}

func (s *sessions) open(opened *session, validity, masterValidity time.Duration) grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(opened.openedAt)
	opened.id = s.nextID
	s.nextID++
	s.byID[opened.id] = opened
	return opened.accept(opened.openedAt, validity, masterValidity)
}

// sweep forgets sessions whose clients have gone without closing them, once there are many.
func (s *sessions) sweep(now time.Time) {
	if len(s.byID) < s.sweepAt {
		return
	}
	for id, opened := range s.byID {
		if !opened.isOpen(now) {
			opened.closeEngineSession()
			delete(s.byID, id)
		}
	}
	s.sweepAt = max(firstSweep, 2*len(s.byID))
}

// find returns the session that a token names, or how to answer when there is none.
func (s *sessions) find(token string, unknown Code) (*session, Code) {
	id := hinted(token)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if opened := s.byID[id]; opened != nil {
		return opened, 0
	}
	if id >= s.firstID && id < s.nextID {
		return nil, SessionGone
	}
	return nil, unknown
}

// authenticate returns the session, even if the token is refused.
func (s *sessions) authenticate(token string, now time.Time) (*session, Code) {
	opened, refused := s.find(token, SessionTokenInvalid)
	if refused != 0 {
		return nil, refused
	}
	return opened, opened.check(token, now)
}

func (s *sessions) remove(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

func (s *sessions) all() []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*session, 0, len(s.byID))
	for _, opened := range s.byID {
		all = append(all, opened)
	}
	return all
}
