package snowkey

import (
	"context"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/snowflakedb/gosnowflake/v2"
)

// A scripted connection uses the tokens as its script says.
type scripted struct {
	snowflakeConn
	do func() error
}

func (s *scripted) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.ResultNoRows, s.do()
}

// executed sends a statement in a transaction's stead, so that no other session is tried, and reports
// whether database/sql may send it again.
func executed(c *conn, do func(*tokens) error) (again bool, err error) {
	c.fresh = false
	s := c.session.Load()
	s.snowflakeConn = &scripted{do: func() error { return do(s.tokens) }}
	_, err = c.ExecContext(context.Background(), "INSERT", nil)
	return errors.Is(err, driver.ErrBadConn), err
}

func use(t *tokens, n int) {
	for range n {
		t.GetTokens()
	}
}

// renew is the driver's renewal of the tokens.
func renew(t *tokens, succeeds bool) {
	_ = t.Lock()
	defer t.Unlock()
	use(t, usesToRenew)
	if succeeds {
		t.SetTokens("session", "master", 1)
	}
}

var over = &gosnowflake.SnowflakeError{Number: 390111}

func TestWhichStatementsHaveNotRun(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *tokens) error
		want bool
	}{
		{"refused", func(t *tokens) error { use(t, 3); return over }, true},
		{"expired, renewed, refused", func(t *tokens) error { use(t, 3); renew(t, true); use(t, 1); return over }, true},
		{"expired, not renewed", func(t *tokens) error { use(t, 3); renew(t, false); return over }, true},
		{"accepted, then asked for its progress", func(t *tokens) error { use(t, 4); return over }, false},
		{"accepted, and not renewed while asked for its progress",
			func(t *tokens) error { use(t, 4); renew(t, false); return over }, false},
		{"expired, renewed, accepted, asked for its progress",
			func(t *tokens) error { use(t, 3); renew(t, true); use(t, 2); return over }, false},
		{"accepted, and asked for its progress after a heartbeat renewed", func(t *tokens) error {
			use(t, 3)
			elsewhere(func() { renew(t, true) })
			use(t, 1)
			return over
		}, false},
		{"accepted, and asked for its progress while a heartbeat renews", func(t *tokens) error {
			use(t, 4)
			elsewhere(func() { _ = t.Lock(); use(t, 1) })
			return over
		}, false},
		{"another error", func(t *tokens) error { use(t, 3); return errors.New("another") }, false},
	} {
		if again, err := executed(wrapped(), c.do); again != c.want || err == nil {
			t.Errorf("%s: sent again: %v, error %v", c.name, again, err)
		}
	}
}

func elsewhere(do func()) {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	<-done
}

// A later driver may look at its tokens less often. That must not make what has run look as if it had not.
func TestADriverThatCountsInAnotherWayIsNotTrusted(t *testing.T) {
	c := wrapped()
	refused := func(t *tokens) error { use(t, 3); return over }
	if again, _ := executed(c, refused); !again {
		t.Error("not sent again with the driver that is known")
	}
	if _, err := executed(c, func(t *tokens) error { use(t, 2); return nil }); err != nil {
		t.Error(err)
	}
	if again, _ := executed(c, refused); again {
		t.Error("sent again with a driver that is not known")
	}
}
