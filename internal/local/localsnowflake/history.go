package localsnowflake

import (
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// Statement is one execution of a statement.
type Statement struct {
	RequestID   string
	QueryID     string
	SessionID   int64 // 0 in the SQL API
	User        string
	Fingerprint string // of the key that opened the session, or that signed the JWT of the SQL API
	Text        string
	Received    time.Time
	Requests    int  // how many requests with this id have come so far
	Executions  int  // how many of them were executed to the end; 0 while running, and once canceled
	Code        Code // of its failure
}

// requestKey tells requests apart. Clients choose the ids.
type requestKey struct{ user, requestID string }

// execution is a statement that runs, or has run.
type execution struct {
	statement
	scope   *scope
	async   bool
	timeout time.Duration
	done    chan struct{} // closed once result is there
	result  result

	// Guarded by history.mu.
	record     Statement
	claimed    bool // somebody is about to settle it
	waiters    int
	detached   bool // its client polls
	abandoned  bool // its client has gone
	executions int  // of the request id before this one
}

// result is how a statement ended.
type result struct {
	columns []column
	rows    [][]*string
	failure *failure

	// The next fields are the SQL engine's, instead of columns and rows.
	engine   map[string]json.RawMessage
	engineID string // of the query, in the engine
	typeID   int64  // of the statement, as the engine says
	size     int    // of engine, in bytes
}

func (e *execution) key() requestKey { return requestKey{e.record.User, e.record.RequestID} }

// history remembers the latest executions: for retries, for polls, for aborts and for tests.
type history struct {
	mu        sync.Mutex
	ring      []*execution
	next      int
	byRequest map[requestKey]*execution
	byQuery   map[string]*execution
	size      int // of all results of the SQL engine
}

func newHistory(n int) *history {
	return &history{
		ring:      make([]*execution, max(n, 1)),
		byRequest: map[requestKey]*execution{},
		byQuery:   map[string]*execution{},
	}
}

// begin remembers the execution. A retry instead gets the earlier execution of its request id, finished or
// not, unless that was abandoned: then it must start again.
func (h *history) begin(e *execution, retry bool) (current *execution, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	earlier := h.byRequest[e.key()]
	if earlier != nil {
		earlier.record.Requests++
		e.record.Requests = earlier.record.Requests
		e.executions = earlier.executions + earlier.record.Executions
	}
	if earlier != nil && retry && !earlier.abandoned {
		earlier.waiters++
		return earlier, false
	}
	e.record.Requests = max(e.record.Requests, 1)
	e.waiters = 1
	h.insert(e)
	return e, true
}

func (h *history) insert(e *execution) {
	if oldest := h.ring[h.next]; oldest != nil {
		h.forget(oldest)
	}
	h.ring[h.next] = e
	h.next = (h.next + 1) % len(h.ring)
	h.byQuery[e.record.QueryID] = e
	if e.record.RequestID != "" {
		h.byRequest[e.key()] = e
	}
}

func (h *history) forget(e *execution) {
	h.drop(e)
	delete(h.byQuery, e.record.QueryID)
	if h.byRequest[e.key()] == e {
		delete(h.byRequest, e.key())
	}
}

// claim reports whether the caller may settle the execution: one caller may.
func (h *history) claim(e *execution) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.claimed {
		return false
	}
	e.claimed = true
	return true
}

// settle ends an execution that the caller has claimed.
func (h *history) settle(e *execution, r result, executed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if executed {
		e.record.Executions = e.executions + 1
	}
	if r.failure != nil {
		e.record.Code = r.failure.code
	}
	e.result = r
	if h.byQuery[e.record.QueryID] == e { // otherwise newer ones have pushed it out
		h.size += r.size
		h.shrink(e)
	}
	close(e.done)
}

// maxHistorySize is how many bytes of the SQL engine's results are kept for retries and polls.
const maxHistorySize = 4 * maxEngineAnswer

// shrink drops the oldest results if all of them together are too large, but not that of the latest.
func (h *history) shrink(latest *execution) {
	for i := 0; h.size > maxHistorySize && i < len(h.ring); i++ {
		if e := h.ring[(h.next+i)%len(h.ring)]; e != nil && e != latest {
			h.drop(e)
		}
	}
}

func (h *history) drop(e *execution) {
	if e.result.engine == nil {
		return
	}
	h.size -= e.result.size
	e.result = result{engineID: e.result.engineID, typeID: e.result.typeID, failure: &failure{code: StatementNotFound, sqlState: "02000",
		message: "The result of statement " + e.record.QueryID + " is not kept any more"}}
}

// resultOf returns the result of an execution that is done.
func (h *history) resultOf(e *execution) result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.result
}

// engineID returns the SQL engine's id for a query of the user, if there is one.
func (h *history) engineID(user, queryID string) string {
	if e := h.ofQuery(user, queryID); e != nil && e.isDone() {
		return h.resultOf(e).engineID
	}
	return ""
}

// cancel ends the execution early. It returns false if it is too late for that.
func (h *history) cancel(e *execution, why *failure) bool {
	if !h.claim(e) {
		return false
	}
	h.settle(e, result{failure: why}, false)
	return true
}

// abort cancels an execution for its client. It is not too late if the client has gone before.
func (h *history) abort(e *execution) bool {
	h.mu.Lock()
	abandoned := e.abandoned
	h.mu.Unlock()
	return abandoned || h.cancel(e, canceled())
}

// detach lets the execution go on without anybody waiting for it.
func (h *history) detach(e *execution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.detached = true
}

// leave notes that a client has gone. The execution is canceled with its last client.
func (h *history) leave(e *execution) {
	h.mu.Lock()
	e.waiters--
	last := e.waiters <= 0 && !e.detached && !e.claimed
	if last {
		e.abandoned, e.claimed = true, true
	}
	h.mu.Unlock()
	if last {
		h.settle(e, result{failure: canceled()}, false)
	}
}

func (h *history) ofRequest(user, requestID string) *execution {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byRequest[requestKey{user, requestID}]
}

// ofQuery returns an execution, but only to its own user.
func (h *history) ofQuery(user, queryID string) *execution {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.byQuery[queryID]; e != nil && e.record.User == user {
		return e
	}
	return nil
}

// Executed returns how many of the latest executions, retries not counted, have taken effect and begin with the
// text, in whatever case.
func (s *Server) Executed(prefix string) (n int) {
	for _, st := range s.Statements() {
		begins := len(st.Text) >= len(prefix) && strings.EqualFold(st.Text[:len(prefix)], prefix)
		if begins && st.Executions > 0 && st.Code == 0 {
			n++
		}
	}
	return n
}

// Statements returns the latest executions, oldest first.
func (s *Server) Statements() []Statement {
	h := s.history
	h.mu.Lock()
	defer h.mu.Unlock()
	var latest []Statement
	for i := range h.ring {
		if e := h.ring[(h.next+i)%len(h.ring)]; e != nil {
			latest = append(latest, e.record)
		}
	}
	return latest
}
