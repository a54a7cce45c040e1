package localsnowflake

import (
	"context"
	"time"
)

// engineSession is the session of the engine that belongs to a session of the account. It is opened for the first
// statement that is handed over, and closed with the account's session. If it is lost, so is the account's: what it
// held, such as a transaction, is gone.
type engineSession struct {
	engine *engine
	lock   chan struct{} // held by the running statement: fakesnow mixes up concurrent ones

	// Guarded by lock.
	token  string // empty before it is opened and after it is closed
	closed bool
}

// engineSession returns the session's session of the engine, which may not be open yet.
func (s *session) engineSession(e *engine) *engineSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		s.engine = &engineSession{engine: e, lock: make(chan struct{}, 1)}
	}
	return s.engine
}

// closeEngineSession closes the session of the engine once no statement runs in it, and lets none be opened.
func (s *session) closeEngineSession() {
	s.mu.Lock()
	w := s.engine
	if w == nil {
		s.engine = &engineSession{lock: make(chan struct{}, 1), closed: true}
	}
	s.mu.Unlock()
	if w != nil && w.engine != nil {
		w.engine.start(w.closeWhenIdle)
	}
}

func (w *engineSession) closeWhenIdle() {
	select {
	case w.lock <- struct{}{}:
		token := w.close()
		<-w.lock
		w.engine.logOut(token)
	case <-w.engine.ctx.Done():
	}
}

// close returns the token to log out with. The caller holds the lock.
func (w *engineSession) close() (token string) {
	if w.token != "" {
		<-w.engine.slots
	}
	token, w.token, w.closed = w.token, "", true
	return token
}

// withEngineSession calls do with the token of the session's session of the engine, one call at a time. An error of do
// ends both sessions.
func (s *Server) withEngineSession(ctx context.Context, opened *session, do func(token string) (result, error)) result {
	w := opened.engineSession(s.engine)
	select {
	case w.lock <- struct{}{}:
		defer func() { <-w.lock }()
	case <-ctx.Done():
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	if failure := s.ensureOpen(ctx, opened, w); failure != nil {
		return result{failure: failure}
	}
	r, err := do(w.token)
	if err != nil {
		s.dropSession(opened, w)
	}
	return r
}

// ensureOpen opens the session of the engine if it is not open. The caller holds the lock.
func (s *Server) ensureOpen(ctx context.Context, opened *session, w *engineSession) *failure {
	if w.closed {
		return failed(SessionGone)
	}
	if w.token != "" {
		return nil
	}
	if !s.acquireSlot(ctx) {
		return engineFailure("the SQL engine has its maximum of %d sessions open; close some", maxEngineSessions)
	}
	token, failure := s.engine.logIn(ctx, opened.currentContext(), opened.autocommit)
	if failure != nil {
		<-s.engine.slots
		return failure
	}
	w.token = token
	return nil
}

// acquireSlot closes the engine's sessions of clients that have gone, if all slots are taken.
func (s *Server) acquireSlot(ctx context.Context) bool {
	select {
	case s.engine.slots <- struct{}{}:
		return true
	default:
	}
	for _, opened := range s.sessions.all() {
		if !opened.isOpen(s.clock()) {
			opened.closeEngineSession()
		}
	}
	timer := time.NewTimer(engineCallTimeout)
	defer timer.Stop()
	select {
	case s.engine.slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// dropSession ends the account's session and the engine's: what the engine still does in it is unknown.
func (s *Server) dropSession(opened *session, w *engineSession) {
	opened.end(SessionGone)
	token := w.close()
	s.engine.start(func() { s.engine.logOut(token) })
}
