package snowkey

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"strings"
	"sync"
)

// A wireTrace watches the requests that the driver writes for one attempt at a statement. It is a
// [httptrace.ClientTrace] in that attempt's context, so that it sees retries and renewals, and nothing of
// heartbeats and other statements, which have contexts of their own.
//
// It answers one question: Snowflake has refused the last request, but may it have accepted an earlier one?
// The driver sends a statement again in two cases. Either Snowflake answered that the session token had
// expired, and the driver renewed it; or it did not get an answer it could use, and the statement may have
// run. A request with the session token directly after another one is also how the driver polls a statement
// that was accepted. So the statement has not run if a renewal lies between any two requests with the
// session token.
type wireTrace struct {
	tokens *tokens
	trace  httptrace.ClientTrace

	mu        sync.Mutex
	last      tokenKind
	resent    bool   // a request followed another one without a renewal in between
	host      string // that the last request went to
	connected bool   // the last request got a connection
}

type tokenKind int

const (
	noToken      tokenKind = iota
	sessionToken           // sends or polls the statement
	masterToken            // renews the session token
)

func newWireTrace(t *tokens) *wireTrace {
	w := &wireTrace{tokens: t}
	w.trace.WroteHeaderField = w.wroteHeaderField
	w.trace.GetConn = w.getConn
	w.trace.GotConn = w.gotConn
	return w
}

func (w *wireTrace) context(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &w.trace)
}

// wroteHeaderField is called before the request leaves the client, over HTTP/1.1 and HTTP/2 alike. (A
// callback after the request could come later than the answer.)
func (w *wireTrace) wroteHeaderField(name string, values []string) {
	if len(values) == 0 || !strings.EqualFold(name, "Authorization") {
		return
	}
	renewal := w.tokens.isMaster(values[0])
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case renewal:
		w.last = masterToken
	case w.last == sessionToken:
		w.resent = true
	default:
		w.last = sessionToken
	}
}

func (w *wireTrace) getConn(hostPort string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.host, w.connected = hostPort, false
}

func (w *wireTrace) gotConn(httptrace.GotConnInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected = true
}

// notExecuted reports whether a statement that Snowflake has refused is known not to have run. A transport
// that does not report to net/http/httptrace shows no request at all, and is not trusted.
func (w *wireTrace) notExecuted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last != noToken && !w.resent
}

// sent reports whether a request was written.
func (w *wireTrace) sent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last != noToken
}

// explain adds the host to the error of a context that ended before anything was sent to Snowflake.
func (w *wireTrace) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.host == "" || w.connected || w.last != noToken {
		return err
	}
	return fmt.Errorf("snowkey: no connection to Snowflake at %s: %w; %s", w.host, err, checkNetwork)
}
