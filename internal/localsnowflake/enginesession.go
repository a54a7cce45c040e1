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
	turn   chan struct{} // is held by the one statement that runs: fakesnow mixes up several

	// Guarded by turn.
	token  string // none before it is opened, and after it is closed
	closed bool
}

// inEngine returns the session's session of the engine, which may not be open yet.
func (s *session) inEngine(e *engine) *engineSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		s.engine = &engineSession{engine: e, turn: make(chan struct{}, 1)}
	}
	return s.engine
}

// leaveEngine closes the session of the engine, if there is one, after the statement that runs in it.
func (s *session) leaveEngine() {
	s.mu.Lock()
	within := s.engine
	s.mu.Unlock()
	if within != nil {
		within.engine.run(within.closeInTurn)
	}
}

func (w *engineSession) closeInTurn() {
	select {
	case w.turn <- struct{}{}:
		token := w.close()
		<-w.turn
		w.engine.logOut(token)
	case <-w.engine.ctx.Done():
	}
}

// close returns the token to log out with. The caller has the turn.
func (w *engineSession) close() (token string) {
	if w.token != "" {
		<-w.engine.slots
	}
	token, w.token, w.closed = w.token, "", true
	return token
}

// within calls what needs a session of the engine, with its token, in its turn.
func (s *Server) within(ctx context.Context, opened *session, do func(token string) (result, error)) result {
	w := opened.inEngine(s.engine)
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	if failure := s.enter(ctx, opened, w); failure != nil {
		return result{failure: failure}
	}
	r, err := do(w.token)
	if err != nil {
		s.lose(opened, w)
	}
	return r
}

// enter opens the session of the engine if it is not open. The caller has the turn.
func (s *Server) enter(ctx context.Context, opened *session, w *engineSession) *failure {
	if w.closed {
		return failed(SessionGone)
	}
	if w.token != "" {
		return nil
	}
	if !s.takeSlot(ctx) {
		return engineFailure("the SQL engine has %d sessions open, which is as many as it gets; close some", maxEngineSessions)
	}
	token, failure := s.engine.logIn(ctx, opened.currentContext(), opened.autocommit)
	if failure != nil {
		<-s.engine.slots
		return failure
	}
	w.token = token
	return nil
}

// takeSlot makes room by closing what belongs to sessions whose clients have gone.
func (s *Server) takeSlot(ctx context.Context) bool {
	select {
	case s.engine.slots <- struct{}{}:
		return true
	default:
	}
	for _, opened := range s.sessions.all() {
		if !opened.isOpen(s.clock()) {
			opened.leaveEngine()
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

// lose ends the account's session together with the engine's: nobody knows what the engine still does in it.
func (s *Server) lose(opened *session, w *engineSession) {
	opened.end(SessionGone)
	token := w.close()
	s.engine.run(func() { s.engine.logOut(token) })
}
