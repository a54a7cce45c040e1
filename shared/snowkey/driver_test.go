package snowkey_test

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func (s *fixture) dataSourceName(params ...string) string {
	params = append([]string{"account=LOCAL", "protocol=http", "privateKeyFile=" + s.path}, params...)
	return fmt.Sprintf("ETL@%s:%d/DB/SCHEMA?%s", s.cfg.Host, s.cfg.Port, strings.Join(params, "&"))
}

func TestDriver_FollowsTheKey(t *testing.T) {
	s := newFixture(t)
	db, err := sql.Open("snowkey", s.dataSourceName("warehouse=LOADING"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s.expectKey(db, 0)
	var warehouse string
	if err := db.QueryRow("SELECT current_warehouse()").Scan(&warehouse); err != nil || warehouse != "LOADING" {
		t.Errorf("warehouse %q, error %v", warehouse, err)
	}
	s.assign(2, 1)
	s.publish(1)
	s.expectKey(db, 1)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
}

// A wrapper can hide Close, so the last connection closes the connector.
func TestDriver_EndsWithItsLastConnection(t *testing.T) {
	s := newFixture(t)
	var conns []driver.Conn
	for range 2 {
		conn, err := snowkey.Driver{}.Open(s.dataSourceName())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if left := s.snowflake.Sessions(); len(left) > 0 {
		t.Errorf("sessions left: %+v", left)
	}
	db, err := sql.Open("snowkey", s.dataSourceName())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(-1) // each query is the first and the last of its connector
	for range 3 {
		s.expectKey(db, 0)
	}
}

func TestDriver_PathOfTheKeyFile(t *testing.T) {
	s := newFixture(t)
	s.path = filepath.Join(t.TempDir(), "a b&c?d=e@f%.der")
	s.publish(0)
	name := strings.Replace(s.dataSourceName(), s.path, url.QueryEscape(s.path), 1)
	db, err := sql.Open("snowkey", name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s.expectKey(db, 0)
}

func TestDriver_NamesThatAreRefused(t *testing.T) {
	s := newFixture(t)
	secret := url.QueryEscape(string(keyfile.B64.Encode(testkey.Key(0))))
	for name, c := range map[string]struct{ dsn, want string }{
		"no key file":                   {"ETL@myorg-myaccount/DB", "privateKeyFile"},
		"private key":                   {s.dataSourceName("privateKey=" + secret), "private key"},
		"private key, in other letters": {s.dataSourceName("private%4Bey=" + secret), "private key"},
		"private_key":                   {s.dataSourceName("private_key=" + secret), "private key"},
		"passWord":                      {s.dataSourceName("passWord=hunter2"), "password"},
		"no account":                    {"ETL:hunter2/DB?privateKeyFile=/x", "user"},
		"port":                          {"ETL@acct:hunter2/DB?privateKeyFile=/x", "260004"},
		"number":                        {s.dataSourceName("loginTimeout=hunter2"), "parameters"},
		"password":                      {"ETL:hunter2@myorg-myaccount/DB?privateKeyFile=/x", "password"},
		"password with ?":               {"ETL:hunter2?hunter3@myorg-myaccount/DB?privateKeyFile=/x", "password"},
		"token":                         {s.dataSourceName("token=hunter2"), "token"},
		"other login":                   {s.dataSourceName("authenticator=externalbrowser"), "Authenticator"},
		"no user":                       {"myorg-myaccount/DB?privateKeyFile=/x", "user"},
		"invalid parameter":             {s.dataSourceName("ocspFailOpen=hunter"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sql.Open("snowkey", c.dsn)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one about %q", err, c.want)
			}
			if text := err.Error(); strings.Contains(text, secret[:40]) || strings.Contains(text, "hunter2") {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
}

func TestDriver_WaitsForTheFirstKeyWithinItsContext(t *testing.T) {
	s := newFixture(t)
	s.path = filepath.Join(t.TempDir(), "later.der")
	db, err := sql.Open("snowkey", s.dataSourceName())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	time.AfterFunc(50*time.Millisecond, func() { s.publish(0) })
	s.expectKey(db, 0)
}

func TestConfig_OtherLoginsAreRefused(t *testing.T) {
	s := newFixture(t)
	for name, change := range map[string]func(*gosnowflake.Config){
		"Authenticator": func(c *gosnowflake.Config) { c.Authenticator = gosnowflake.AuthTypeOAuth },
		"PrivateKey":    func(c *gosnowflake.Config) { c.PrivateKey = testkey.Key(0).RSA() },
		"TokenAccessor": func(c *gosnowflake.Config) { c.TokenAccessor = noTokens{} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.cfg
			change(&cfg)
			_, err := snowkey.Open(t.Context(), s.path, cfg)
			if err == nil || !strings.Contains(err.Error(), "Config."+name) {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(err.Error(), testkey.Key(0).RSA().D.String()) {
				t.Error("the key is in the error")
			}
		})
	}
	cfg := s.cfg
	cfg.Authenticator = gosnowflake.AuthTypeJwt
	db, err := snowkey.Open(t.Context(), s.path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

type noTokens struct{}

func (noTokens) GetTokens() (session, master string, id int64) { return "", "", 0 }
func (noTokens) SetTokens(string, string, int64)               {}
func (noTokens) Lock() error                                   { return nil }
func (noTokens) Unlock()                                       {}

// The last connection may go before an asynchronous statement ends.
func TestDriver_AsyncResultAfterTheLastConnection(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.snowflake.SetInProgressAfter(10 * time.Millisecond)
	db, err := sql.Open("snowkey", s.dataSourceName())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(-1)
	result, err := db.ExecContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(1)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.RowsAffected(); err != nil {
		t.Error(err)
	}
	eventually(t, "no session is left", func() bool { return len(s.snowflake.Sessions()) == 0 })
}
