package wrappers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/XSAM/otelsql"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestSessionInit_RunsOnEverySession(t *testing.T) {
	for _, tc := range []struct {
		name string
		open func(*snowkey.Connector) *sql.DB
	}{
		{"none", func(c *snowkey.Connector) *sql.DB { return sql.OpenDB(c) }},
		{"otelsql.OpenDB", func(c *snowkey.Connector) *sql.DB { return otelsql.OpenDB(c) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAccount(t)
			p := open(t, a, func(a *account) *pool {
				c := a.connector(snowkey.WithSessionInit(func(ctx context.Context, conn driver.Conn) error {
					_, err := conn.(driver.ExecerContext).ExecContext(ctx, "USE WAREHOUSE REPORTING", nil)
					return err
				}))
				db := tc.open(c)
				return &pool{DB: db, account: a, connector: c, close: db.Close}
			})
			expectReporting := func(when string) {
				t.Helper()
				p.onEachConnection(t, func(conn *sql.Conn) {
					if got := queryString(t, conn, "SELECT current_warehouse()"); got != "REPORTING" {
						t.Errorf("%s: the warehouse is %q", when, got)
					}
				})
			}
			expectReporting("at first")

			p.rotate(t, 1)
			expectReporting("after a rotation")
			testenv.Eventually(a.t, "all sessions are of the new key", func() bool {
				for _, s := range a.snowflake.Sessions() {
					if s.Fingerprint != testkey.Key(1).Fingerprint() {
						return false
					}
				}
				return true
			})

			for _, end := range ends {
				a.snowflake.EndSessions(end)
				expectReporting("after the sessions have ended with " + end.String())
			}
		})
	}
}
