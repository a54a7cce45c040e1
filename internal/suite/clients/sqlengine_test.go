//go:build clients

package clients

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// withTables gives Snowflake a SQL engine: fakesnow, as scripts/sqlengine pins it.
func withTables(t *testing.T) localsnowflake.Option {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // fakesnow does not say which port it has got
	_, port, _ := net.SplitHostPort(address)
	f := &fixture{t: t, home: t.TempDir()}
	f.start(f.home, nil, installed(t, "sqlengine/venv/bin/fakesnow"), "--server", "--port="+port)
	testenv.Eventually(f.t, "the SQL engine listens", func() bool {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return false
		}
		return connection.Close() == nil
	})
	return localsnowflake.WithEngine(&url.URL{Scheme: "http", Host: address}, engineTimeout)
}

// engineTimeout is for a statement on a busy machine.
const engineTimeout = time.Minute

// What tables.py prints before and after the rotation.
const (
	tables = `created|Table PEOPLE successfully created.
inserted|2
inserted|2
before COMMIT|2
after COMMIT|4
deleted|4
before ROLLBACK|0
after ROLLBACK|4
written|True|2
row|1|it's|1990-01-02|SVC|LOADER
row|2|None|None|SVC|LOADER
row|3|three|None|SVC|LOADER
row|4|four|None|SVC|LOADER
row|5|five|None|SVC|LOADER
row|6|six|None|SVC|LOADER
several|Table OTHER successfully created.|2|2
asynchronous|6
cannot|252005|SELECT NULL::TIMESTAMP_NTZ
cannot|2003|SELECT LAST_QUERY_ID()
cannot|603|EXPLAIN SELECT 1
cannot|1003|GET @files file:///tmp/
can|CREATE ROLE other
cannot|1003|GRANT SELECT ON TABLE people TO ROLE other
cannot|1003|CREATE PROCEDURE p() RETURNS INT LANGUAGE SQL AS $$ BEGIN RETURN 1; END $$
cannot|1003|CREATE TASK t SCHEDULE = '1 MINUTE' AS SELECT 1
cannot|1003|CREATE WAREHOUSE other
cannot|2043|MERGE INTO people USING (SELECT 1 AS id, 'a' AS name) AS s ON people.id = s.id WHEN NOT MATCHED THEN INSERT (id, name) VALUES (id, name)
error|2003|42S02
the first key|is used
`
	tablesAfterRotation = `with the second key|6
with the first key|7
`
)

func TestSQLEngine_PythonKeepsItsTablesInARotation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	program, err := filepath.Abs("testdata/tables.py")
	if err != nil {
		t.Fatal(err)
	}
	p := f.start(f.home, f.environ(), installed(t, "pandas/venv/bin/python"), program)
	testenv.Eventually(f.t, "the first key is used", func() bool { return p.Ended() || strings.Contains(p.String(), "the first key|") })
	f.rotateTo(2)
	if printed := p.Wait(); said(printed) != tables+tablesAfterRotation {
		t.Errorf("it printed\n%swant\n%s", said(printed), tables+tablesAfterRotation)
	}
	if n := f.snowflake.LoginCount(fingerprint(2), 0); n == 0 {
		t.Error("no login with the second key")
	}
	f.keptTheSecret(p.String())
}

// rotateTo replaces the first test key by the nth everywhere.
func (f *fixture) rotateTo(n int) {
	f.t.Helper()
	f.assign(2, n)
	f.rotate(n)
	f.published(n)
	f.snowflake.UnsetPublicKey(user, 1)
}

func TestSQLEngine_GoHelperKeepsItsTablesInARotation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	ctx, cancel := context.WithTimeout(t.Context(), engineTimeout)
	defer cancel()
	port, err := strconv.Atoi(f.url.Port())
	if err != nil {
		t.Fatal(err)
	}
	db, err := snowkey.Open(ctx, filepath.Join(f.dir, keyfile.DER.FileName()), gosnowflake.Config{
		Account: account, User: user, Host: f.url.Hostname(), Port: port, Protocol: f.url.Scheme, Database: "DB", Schema: "S",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	mustExec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(ctx, sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	count := func() (n int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM events").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	mustExec("CREATE TABLE events (id INT, name VARCHAR)")
	mustExec("INSERT INTO events VALUES (?, ?)", 1, "it's")
	mustExec("INSERT INTO events VALUES (?, ?)", array(t, &[]int{2, 3}), array(t, &[]string{"two", "three"}))
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM events"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	f.rotateTo(2)
	testenv.Eventually(f.t, "the helper is on the second key", func() bool {
		return count() == 3 && slices.ContainsFunc(f.snowflake.Statements(), func(s localsnowflake.Statement) bool {
			return s.Fingerprint == fingerprint(2) && strings.HasPrefix(s.Text, "SELECT COUNT(*)") && s.Code == 0
		})
	})
}

// array is a binding of several rows.
func array(t *testing.T, values any) any {
	t.Helper()
	bound, err := gosnowflake.Array(values)
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

func TestSQLEngine_NodeReadsItsTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	p := f.start(installed(t, "node"), f.environ(), "node", copyTo(t, installed(t, "node"), "tables.mjs"))
	const want = `created|Table THINGS successfully created.
inserted|1
inserted|2
row|1|1.25|it's|true
row|2|NULL|NULL|false
row|3|-0.05|three|true
counted|3|SVC
types|0.5|1990-01-02T00:00:00.000Z|1990-01-02T03:04:05.678Z|NULL|1969-12-31T23:59:59.500Z|{"a":[1,2]}
deleted|2
cannot | 603 | bind a NULL number in one of several rows
shown|THINGS
`
	if printed := p.Wait(); said(printed) != want {
		t.Errorf("it printed\n%swant\n%s", said(printed), want)
	}
}

func TestSQLEngine_DescribingExecutesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	db := f.goDriver()
	ctx, cancel := context.WithTimeout(t.Context(), engineTimeout)
	defer cancel()
	if _, err := db.ExecContext(ctx, "CREATE TABLE t (a INT)"); err != nil {
		t.Fatal(err)
	}
	describing := gosnowflake.WithDescribeOnly(ctx)
	for _, sql := range []string{
		"INSERT INTO t VALUES (1)", "UPDATE t SET a = 2", "DELETE FROM t", "MERGE INTO t USING (SELECT 1 AS b) s ON t.a = s.b WHEN NOT MATCHED THEN INSERT VALUES (s.b)",
		"CREATE TABLE u (a INT)", "CREATE OR REPLACE TABLE t (b INT)", "DROP TABLE t", "ALTER TABLE t ADD b INT", "TRUNCATE TABLE t", "USE SCHEMA other",
		"SELECT a FROM t UNION SELECT 2", "SELECT a FROM t", "SHOW TABLES", "DESCRIBE TABLE t",
	} {
		rows, err := db.QueryContext(describing, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		columns, err := rows.Columns()
		if err != nil || len(columns) == 0 || rows.Next() {
			t.Errorf("%s: the columns %q, %v", sql, columns, err)
		}
		rows.Close()
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(a) FROM t").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM u").Scan(&n); err == nil {
		t.Error("a described table was created")
	}
}

func TestSQLEngine_GoDriverCountsTheRowsOfSeveralStatements(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	ctx, cancel := context.WithTimeout(t.Context(), engineTimeout)
	defer cancel()
	result, err := f.goDriver().ExecContext(gosnowflake.WithMultiStatement(ctx, 0), "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2), (3); "+
		"UPDATE t SET a = 4 WHERE a < 3; SELECT * FROM t; DELETE FROM t WHERE a = 3")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 3+2+1 || err != nil {
		t.Errorf("%d rows affected, %v", n, err)
	}
}

// goDriver is one connection of gosnowflake, on the first key.
func (f *fixture) goDriver() *sql.DB {
	f.t.Helper()
	port, err := strconv.Atoi(f.url.Port())
	if err != nil {
		f.t.Fatal(err)
	}
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, gosnowflake.Config{
		Account: account, User: user, Host: f.url.Hostname(), Port: port, Protocol: f.url.Scheme, Database: "DB", Schema: "S",
		Authenticator: gosnowflake.AuthTypeJwt, PrivateKey: testkey.Key(1).RSA(),
	}))
	db.SetMaxOpenConns(1)
	f.t.Cleanup(func() { db.Close() })
	return db
}

func TestSQLEngine_SQLAPIReadsTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withTables(t))
	for _, tc := range []struct{ sql, want string }{
		{"CREATE TABLE t (a INT, b TIMESTAMP_NTZ)", `[["Table T successfully created."]]`},
		{"INSERT INTO t VALUES (1, NULL), (2, '1970-01-01 00:00:01.5')", `[["2"]]`},
		{"SELECT a, b, CURRENT_USER() FROM t ORDER BY a", `[["1",null,"SVC"],["2","1.500000000","SVC"]]`},
	} {
		if got := f.sqlAPI(tc.sql); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.sql, got, tc.want)
		}
	}
}

// sqlAPI returns the data of a statement's answer.
func (f *fixture) sqlAPI(statement string) string {
	f.t.Helper()
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": account + "." + user + "." + fingerprint(1), "sub": account + "." + user, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}).SignedString(testkey.Key(1).RSA())
	if err != nil {
		f.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"statement": statement, "database": "DB", "schema": "S", "timeout": 60})
	if err != nil {
		f.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url.String()+"/api/v2/statements", bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
		"User-Agent": {"test/1"}, "X-Snowflake-Authorization-Token-Type": {"KEYPAIR_JWT"}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var out struct {
		Data    json.RawMessage
		Message string
	}
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil || out.Data == nil {
		f.t.Fatalf("%s: %d, %s, %v", statement, response.StatusCode, out.Message, err)
	}
	return string(out.Data)
}
