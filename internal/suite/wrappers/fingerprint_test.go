package wrappers

import (
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/XSAM/otelsql"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestFingerprint_FollowsRotation(t *testing.T) {
	for _, tc := range []struct {
		name        string
		open        func(*snowkey.Connector) *sql.DB
		fingerprint func(*sql.Conn) (string, error)
	}{
		{
			"sql.Conn without a wrapper",
			func(c *snowkey.Connector) *sql.DB { return sql.OpenDB(c) },
			func(conn *sql.Conn) (string, error) { return snowkey.Fingerprint(conn) },
		},
		{
			"driver.Conn that otelsql unwraps",
			func(c *snowkey.Connector) *sql.DB { return otelsql.OpenDB(c) },
			func(conn *sql.Conn) (fingerprint string, err error) {
				err = conn.Raw(func(wrapped any) error {
					fingerprint, err = snowkey.Fingerprint(wrapped.(interface{ Raw() driver.Conn }).Raw())
					return err
				})
				return fingerprint, err
			},
		},
		{
			"driver.Conn inside of a wrapper",
			func(c *snowkey.Connector) *sql.DB {
				return sql.OpenDB(closer{wrappingConnector{c, func(conn driver.Conn) (driver.Conn, error) { return &labelled{passed: conn.(passed)}, nil }}})
			},
			func(conn *sql.Conn) (fingerprint string, err error) {
				err = conn.Raw(func(wrapped any) error {
					fingerprint, err = wrapped.(*labelled).key()
					return err
				})
				return fingerprint, err
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAccount(t)
			c := a.connector()
			db := tc.open(c)
			t.Cleanup(func() { db.Close() })
			for key := range 3 {
				if key > 0 {
					a.rotate(c, key)
				}
				conn, err := db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got, err := tc.fingerprint(conn)
				conn.Close()
				if want := testkey.Key(key).Fingerprint(); err != nil || got != want {
					t.Errorf("key %d: got %q, %v, want %q", key, got, err, want)
				}
			}
		})
	}
}

// A labelled connection knows the key of the connection inside, as a wrapper might for its log.
type labelled struct{ passed }

func (c *labelled) key() (string, error) { return snowkey.Fingerprint(c.passed) }

func TestFingerprint_OfForeignConnectionFails(t *testing.T) {
	a := newAccount(t)
	p := overConnector(func(c *snowkey.Connector) *sql.DB {
		return sql.OpenDB(closer{wrappingConnector{c, withoutValidator}})
	})(a)
	t.Cleanup(func() { p.close() })
	conn, err := p.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := snowkey.Fingerprint(conn); err == nil {
		t.Errorf("a wrapper that gives nothing of its connection has the fingerprint %q", got)
	}
}
