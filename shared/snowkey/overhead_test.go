package snowkey

import (
	"context"
	"database/sql/driver"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// fake is a driver's connection that only reports a request, as net/http does, so that the test measures the wrapper.
type fake struct{ snowflakeConn }

var sessionHeader = []string{`Snowflake Token="session"`}

func (f *fake) QueryContext(ctx context.Context, _ string, _ []driver.NamedValue) (driver.Rows, error) {
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		trace.GetConn("localhost:443")
		trace.GotConn(httptrace.GotConnInfo{})
		trace.WroteHeaderField("Authorization", sessionHeader)
	}
	return nil, nil
}

func (f *fake) Close() error { return nil }

func testConn() *conn {
	o := defaultOptions()
	c := &Connector{pool: newPool(o.spareTTL), options: o}
	key := testkey.Key(0)
	c.pool.serve(key, nil)
	t := new(tokens)
	t.SetTokens("session", "master", 1)
	s := &session{snowflakeConn: &fake{}, key: key, tokens: t, muted: new(atomic.Bool), traced: true}
	conn := newConn(c, s)
	c.pool.add(conn)
	return conn
}

// checkOut is what database/sql calls on a connection for one query.
func checkOut(c *conn) {
	_, _ = c.QueryContext(context.Background(), "SELECT 1", nil)
	if c.IsValid() {
		_ = c.ResetSession(context.Background())
	}
}

// The driver allocates hundreds of times for a query.
func TestCheckOut_Allocations(t *testing.T) {
	const bound = 6
	c := testConn()
	n := testing.AllocsPerRun(1000, func() { checkOut(c) })
	t.Logf("%v allocations", n)
	if n > bound {
		t.Errorf("%v allocations, at most %d are accepted", n, bound)
	}
}

// The test tries several times, for a machine that is busy with other things.
func TestCheckOut_Time(t *testing.T) {
	testenv.Heavy(t)
	const bound = 2 * time.Microsecond
	c := testConn()
	best := time.Hour
	for range 20 {
		const n = 10_000
		began := time.Now()
		for range n {
			checkOut(c)
		}
		best = min(best, time.Since(began)/n)
	}
	t.Logf("%v per check-out", best)
	if best > bound {
		t.Errorf("%v per check-out, at most %v is accepted", best, bound)
	}
}

// go test -run '^$' -bench CheckOut ./shared/snowkey
func BenchmarkCheckOut(b *testing.B) {
	b.Run("wrapped", func(b *testing.B) {
		c := testConn()
		b.ReportAllocs()
		for b.Loop() {
			checkOut(c)
		}
	})
	b.Run("bare", func(b *testing.B) {
		inner := testConn().currentSession()
		b.ReportAllocs()
		for b.Loop() {
			_, _ = inner.QueryContext(context.Background(), "SELECT 1", nil)
		}
	})
}
