package snowkey

import (
	"context"
	"database/sql/driver"
	"errors"
	"net/http/httptrace"
	"testing"

	"github.com/snowflakedb/gosnowflake/v2"
)

// A wireScript is what the driver sends for a statement, request by request, and how the statement ends.
type wireScript struct {
	snowflakeConn
	do func(request func(token string)) error
}

func (s *wireScript) ExecContext(ctx context.Context, _ string, _ []driver.NamedValue) (driver.Result, error) {
	trace := httptrace.ContextClientTrace(ctx)
	return driver.ResultNoRows, s.do(func(token string) {
		trace.WroteHeaderField("Authorization", []string{`Snowflake Token="` + token + `"`})
	})
}

var gone = &gosnowflake.SnowflakeError{Number: 390111}

// After a refusal, the requests of a statement tell whether it has run.
func TestWireTrace_NotExecuted(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(tokens *tokens, request func(token string)) error
		want bool
	}{
		{"refused", func(_ *tokens, request func(string)) error {
			request("session")
			return gone
		}, true},
		{"expired, renewed, refused", func(t *tokens, request func(string)) error {
			request("session")
			request("master")
			t.SetTokens("session 2", "master 2", 1)
			request("session 2")
			return gone
		}, true},
		{"expired twice, renewed twice, refused", func(t *tokens, request func(string)) error {
			request("session")
			request("master")
			t.SetTokens("session 2", "master 2", 1)
			request("session 2")
			request("master 2")
			t.SetTokens("session 3", "master 3", 1)
			request("session 3")
			return gone
		}, true},
		{"expired, the renewal sent twice and refused", func(_ *tokens, request func(string)) error {
			request("session")
			request("master")
			request("master")
			return gone
		}, true},
		{"expired, not renewed", func(_ *tokens, request func(string)) error {
			request("session")
			request("master")
			return gone
		}, true},
		{"accepted, polled, refused", func(_ *tokens, request func(string)) error {
			request("session")
			request("session")
			return gone
		}, false},
		{"accepted, polled, expired, not renewed", func(_ *tokens, request func(string)) error {
			request("session")
			request("session")
			request("master")
			return gone
		}, false},
		{"accepted, polled, expired, renewed, refused", func(t *tokens, request func(string)) error {
			request("session")
			request("session")
			request("master")
			t.SetTokens("session 2", "master 2", 1)
			request("session 2")
			return gone
		}, false},
		{"expired, renewed, accepted, polled, refused", func(t *tokens, request func(string)) error {
			request("session")
			request("master")
			t.SetTokens("session 2", "master 2", 1)
			request("session 2")
			request("session 2")
			return gone
		}, false},
		{"accepted, renewed by another goroutine, polled, refused", func(t *tokens, request func(string)) error {
			request("session")
			t.SetTokens("session 2", "master 2", 1)
			request("session 2")
			return gone
		}, false},
		{"answer lost, resent, refused", func(_ *tokens, request func(string)) error {
			request("session")
			request("session")
			return gone
		}, false},
		{"the master token is the session token", func(t *tokens, request func(string)) error {
			t.SetTokens("same", "same", 1)
			request("same")
			request("same")
			request("same")
			return gone
		}, false},
		{"a transport that reports nothing", func(*tokens, func(string)) error { return gone }, false},
		{"another error", func(_ *tokens, request func(string)) error {
			request("session")
			return errors.New("another")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := testConn()
			s := conn.currentSession()
			s.snowflakeConn = &wireScript{do: func(request func(string)) error { return c.do(s.tokens, request) }}
			conn.state, conn.fresh = connInUse, false // so that no new session is tried
			_, err := conn.ExecContext(t.Context(), "INSERT", nil)
			if again := errors.Is(err, driver.ErrBadConn); again != c.want || err == nil {
				t.Errorf("may be sent again: %v, want %v; error %v", again, c.want, err)
			}
		})
	}
}
