package wrappers

import (
	"database/sql"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

func TestPool_ClosesWithDB(t *testing.T) {
	for _, wrapper := range wrappers {
		t.Run(wrapper.name, func(t *testing.T) {
			a := newAccount(t)
			before := goleak.IgnoreCurrent()
			p := open(t, a, wrapper.open)
			p.rotate(t, 1)
			p.onEachConnection(t, func(conn *sql.Conn) { mustExec(t, conn, "SELECT 1") })
			a.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Endpoint == localsnowflake.EndpointClose {
					return &localsnowflake.Fault{Delay: 100 * time.Millisecond}
				}
				return nil
			})

			if err := p.close(); err != nil {
				t.Error(err)
			}
			if left := a.snowflake.Sessions(); len(left) > 0 {
				t.Errorf("sessions left: %+v", left)
			}
			if err := goleak.Find(append(httpConnections, before)...); err != nil {
				t.Error(err)
			}
		})
	}
}

// httpConnections are the goroutines of idle connections to the local Snowflake, on both sides.
var httpConnections = []goleak.Option{
	goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
	goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
	goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
}
