package localsnowflake

import (
	"context"
	"fmt"
	"time"
)

func newExecution(c *call, st statement, now time.Time) *execution {
	return &execution{
		statement: st,
		done:      make(chan struct{}),
		record: Statement{
			RequestID:   c.RequestID,
			QueryID:     newQueryID(),
			SessionID:   c.SessionID,
			User:        c.User,
			Fingerprint: c.Fingerprint,
			Text:        c.Statement,
			Received:    now,
		},
	}
}

// submit starts the execution, or returns the one that the request is a retry of.
func (s *Server) submit(e *execution, retry bool) *execution {
	e, fresh := s.history.begin(e, retry)
	if fresh {
		s.start(e)
	}
	return e
}

// start executes a statement at once if it takes no time, and otherwise by a timer, which needs no goroutine to end.
func (s *Server) start(e *execution) {
	switch st := e.statement.(type) {
	case forwarded:
		s.startInEngine(e, func(ctx context.Context) result { return s.askEngine(ctx, e, st) })
		return
	case multiStatement:
		s.startInEngine(e, func(ctx context.Context) result { return s.runAll(ctx, st) })
		return
	}
	wait := s.queryLatency.get() + e.duration()
	switch {
	case wait <= 0:
		s.execute(e)
	case e.timeout > 0 && e.timeout < wait:
		time.AfterFunc(e.timeout, func() { s.history.cancel(e, timedOut(e.timeout)) })
	default:
		time.AfterFunc(wait, func() { s.execute(e) })
	}
}

func timedOut(after time.Duration) *failure {
	return &failure{code: StatementTimedOut, sqlState: "57014", message: fmt.Sprintf(
		"Statement reached its statement or warehouse timeout of %d second(s) and was canceled.", int(after.Seconds()))}
}

func (s *Server) execute(e *execution) {
	if !s.history.claim(e) {
		return
	}
	rows, failure := e.rows(e.scope)
	s.counters.statements.Add(1)
	s.history.settle(e, result{columns: e.columns(e.scope), rows: rows, failure: failure}, true)
}

func (e *execution) isDone() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// progress is how far an execution has come when its client is answered.
type progress int

const (
	finished progress = iota
	stillRunning
	clientGone
)

// await waits for a client that has submitted the execution, and cancels it if the client goes away.
func (s *Server) await(c *call, e *execution) progress {
	if e.async {
		s.history.detach(e)
		return stillRunning
	}
	progress := s.awaitDetached(c, e)
	switch progress {
	case stillRunning:
		s.history.detach(e)
	case clientGone:
		s.history.leave(e)
	}
	return progress
}

// awaitDetached waits for a client that polls.
func (s *Server) awaitDetached(c *call, e *execution) progress {
	if e.isDone() {
		return finished
	}
	timeout := time.NewTimer(s.inProgressAfter.get())
	defer timeout.Stop()
	select {
	case <-e.done:
		return finished
	case <-timeout.C:
		return stillRunning
	case <-c.ctx.Done():
		return clientGone
	}
}
