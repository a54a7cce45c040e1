package localsnowflake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// engineTimeout is far longer than a stub takes.
const engineTimeout = time.Minute

// stubEngine speaks as much of the drivers' protocol as a SQL engine has to.
type stubEngine struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	received []engineRequest
	sessions map[string]bool
	answer   func(sql string) string // the body of an answer; nothing for the usual one

	uploading func() // called when an upload begins
	drops     bool   // the connection of a statement a moment after its answer
}

// engineRequest is everything that the engine is told in a request.
type engineRequest struct {
	path, token, sql, raw string
	query                 url.Values
}

func (e *stubEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		e.mu.Lock()
		uploading := e.uploading
		e.mu.Unlock()
		if uploading != nil {
			uploading()
		}
	}
	body, _ := io.ReadAll(r.Body)
	var in struct{ SQLText string }
	_ = json.Unmarshal(body, &in)
	request := engineRequest{path: r.URL.Path, token: r.Header.Get("Authorization"), sql: in.SQLText, query: r.URL.Query()}
	request.raw = fmt.Sprint(r.Method, r.URL, r.Header, string(body))
	e.mu.Lock()
	e.received = append(e.received, request)
	known, logins, answer, drops := e.sessions[request.token], len(e.sessions), e.answer, e.drops
	e.mu.Unlock()
	switch {
	case drops && r.URL.Path == localsnowflake.EndpointQuery:
		e.failAndDrop(w)
	case r.Method == http.MethodPut:
	case r.URL.Path == localsnowflake.EndpointLogin:
		token := fmt.Sprintf("engine-%d", logins+1)
		e.know(`Snowflake Token="`+token+`"`, true)
		fmt.Fprintf(w, `{"success":true,"data":{"token":%q}}`, token)
	case !known:
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"success":false,"code":"390104","message":"User must login again to access the service."}`)
	case r.URL.Path == localsnowflake.EndpointClose:
		e.know(request.token, false)
		io.WriteString(w, `{"success":true,"data":null}`)
	default:
		e.reply(w, answer, in.SQLText)
	}
}

func (e *stubEngine) reply(w http.ResponseWriter, answer func(string) string, sql string) {
	if answer != nil {
		if body := answer(sql); body != "" {
			io.WriteString(w, body)
			return
		}
	}
	io.WriteString(w, `{"success":true,"data":{"queryId":"engine-query","rowtype":[],"rowset":[["from the engine"]],"total":1,"queryResultFormat":"json"}}`)
}

// failAndDrop answers with an error, and closes the connection a moment later without having said so, as uvicorn does.
func (e *stubEngine) failAndDrop(w http.ResponseWriter) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		e.t.Error(err)
		return
	}
	_, _ = io.WriteString(connection, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nerror")
	time.AfterFunc(50*time.Millisecond, func() {
		_ = connection.(*net.TCPConn).SetLinger(0)
		connection.Close()
	})
}

func (e *stubEngine) know(token string, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sessions[token] = known
}

// answers sets what statements are answered with; the function may wait.
func (e *stubEngine) answers(answer func(sql string) string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *stubEngine) requests(path string) (all []engineRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.received {
		if r.path == path {
			all = append(all, r)
		}
	}
	return all
}

// statements are the texts that have been handed over.
func (e *stubEngine) statements() (all []string) {
	for _, r := range e.requests(localsnowflake.EndpointQuery) {
		all = append(all, r.sql)
	}
	return all
}

func (e *stubEngine) wantStatements(want ...string) {
	e.t.Helper()
	if got := e.statements(); !slices.Equal(got, want) {
		e.t.Errorf("the engine was handed %q, want %q", got, want)
	}
}

func newAccountWithEngine(t *testing.T, timeout time.Duration) (*account, *stubEngine) {
	t.Helper()
	e := &stubEngine{t: t, sessions: map[string]bool{}}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)

	at, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	a := newAccount(t, localsnowflake.WithEngine(at, timeout))
	t.Cleanup(a.Close)
	return a, e
}

func TestEngine_GetsWhatIsNotTheAccounts(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", "r")
	c := a.client().open()
	for _, sql := range []string{
		"ALTER USER svc SET RSA_PUBLIC_KEY_2='no key'", "ALTER USER svc SET PASSWORD='unterminated", "/* a */ alter -- b\n user",
		"DESC USER svc", "SHOW USERS", "SHOW USER KEY PAIRS", "CREATE USER other PASSWORD='secret'", "CREATE OR REPLACE USER other", "DROP USER svc",
		"SELECT CURRENT_USER()", "select current_role(), 1 as one", "CALL SYSTEM$WAIT(0)", "SELECT SYSTEM$WAIT(0)",
		"USE ROLE r", "USE SECONDARY ROLES ALL", "USE WAREHOUSE w", "ALTER SESSION SET QUERY_TAG='x'", "", "SELECT 1; SELECT 2",
	} {
		c.query("", sql)
	}
	e.wantStatements()
	handed := []string{
		"SELECT 1", "SELECT * FROM VALUES (1)", "CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)", "BEGIN", "ROLLBACK", "SHOW TABLES",
		"ALTER SESSION SET AUTOCOMMIT=FALSE", "CREATE TEMPORARY STAGE s", "PUT file:///a @s", "SELECT 'what no parser here understands", "ALTER TABLE user ADD c INT",
	}
	for _, sql := range handed {
		if out := c.query("", sql); !out.Success || out.Data.RowSet[0][0] != "from the engine" {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	e.wantStatements(handed...)
}

func TestEngine_SessionBelongsToOneOfTheAccounts(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", "r")
	c := a.client()
	login := c.mustPost(localsnowflake.EndpointLogin+"?databaseName=DB&schemaName=S&roleName=R", map[string]any{"data": map[string]any{
		"AUTHENTICATOR": "SNOWFLAKE_JWT", "TOKEN": token(t, oldKey()), "SESSION_PARAMETERS": map[string]any{"AUTOCOMMIT": false},
	}})
	c.token, c.master = login.Data.Token, login.Data.MasterToken
	c.query("", "SELECT CURRENT_USER()")
	if n := len(e.requests(localsnowflake.EndpointLogin)); n != 0 {
		t.Fatalf("%d sessions of the engine before they are needed", n)
	}
	c.query("", "SELECT 1")
	c.token = c.renew(c.master).Data.SessionToken
	c.query("", "SELECT 2")
	other := a.client().open()
	other.query("", "SELECT 3")

	logins := e.requests(localsnowflake.EndpointLogin)
	if len(logins) != 2 || logins[0].query.Get("databaseName") != "DB" || logins[0].query.Get("schemaName") != "S" || !strings.Contains(logins[0].raw, `"AUTOCOMMIT":false`) {
		t.Errorf("the engine's logins are %+v", logins)
	}
	var tokens []string
	for _, r := range e.requests(localsnowflake.EndpointQuery) {
		tokens = append(tokens, r.token)
	}
	if len(tokens) != 3 || tokens[0] != tokens[1] || tokens[1] == tokens[2] {
		t.Errorf("the statements came in the sessions %q", tokens)
	}
	c.mustPost(localsnowflake.EndpointClose+"?delete=true", nil)
	testenv.Eventually(t, "the engine's session is closed", func() bool { return len(e.requests(localsnowflake.EndpointClose)) == 1 })
	if closed := e.requests(localsnowflake.EndpointClose)[0]; closed.token != tokens[0] || closed.query.Get("delete") != "true" {
		t.Errorf("closed %+v", closed)
	}
}

func TestEngine_LearnsNothingThatAClientLogsInWith(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	jwt := token(t, oldKey())
	c := a.client()
	out := c.login(jwt)
	c.token = out.Data.Token
	c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": "SELECT ?", "bindings": map[string]any{"1": map[string]any{"type": "TEXT", "value": "v"}},
		"token": c.token})
	c.mustPost(localsnowflake.EndpointClose+"?delete=true", nil)
	testenv.Eventually(t, "the engine's session is closed", func() bool { return len(e.requests(localsnowflake.EndpointClose)) == 1 })
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.received {
		for name, secret := range map[string]string{"the JWT": jwt, "the token": out.Data.Token, "the master token": out.Data.MasterToken, "the user": "SVC"} {
			if strings.Contains(r.raw, secret) {
				t.Errorf("%s is told the engine: %s", name, r.raw)
			}
		}
	}
}

func TestEngine_ResultIsTheClients(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", "r")
	e.answers(func(string) string {
		return `{"success":true,"data":{"queryId":"engine-query","rowsetBase64":"QVJST1cx","queryResultFormat":"arrow","unheardOf":{"a":[1]},
			"finalDatabaseName":"DB2","finalSchemaName":"S2","statementTypeId":4096}}`
	})
	c := a.client().open()
	c.query("", "USE ROLE r")
	c.query("", "USE WAREHOUSE w")
	response := c.raw(t, map[string]any{"sqlText": "SELECT * FROM t"})
	var got struct {
		Data map[string]any
	}
	if err := json.Unmarshal(response, &got); err != nil {
		t.Fatal(err)
	}
	last := a.Statements()[len(a.Statements())-1]
	for name, want := range map[string]any{
		"rowsetBase64": "QVJST1cx", "queryResultFormat": "arrow", "unheardOf": map[string]any{"a": []any{1.0}}, "statementTypeId": 4096.0,
		"queryId": last.QueryID, "finalRoleName": "R", "finalWarehouseName": "W", "finalDatabaseName": "DB2", "finalSchemaName": "S2",
	} {
		if fmt.Sprint(got.Data[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, got.Data[name], want)
		}
	}
	if last.Executions != 1 || last.Code != 0 {
		t.Errorf("remembered as %+v", last)
	}
	if out := c.query("", "SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()"); !slices.Equal(out.Data.RowSet[0], []string{"DB2", "S2"}) {
		t.Errorf("the session is in %v", out.Data.RowSet)
	}
}

// raw is the body of the answer to a statement.
func (c *client) raw(t *testing.T, body any) []byte {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+localsnowflake.EndpointQuery, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", `Snowflake Token="`+c.token+`"`)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestEngine_FailureIsTheClients(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	for _, tc := range []struct {
		answer  string
		code    localsnowflake.Code
		state   string
		message string
	}{
		{`{"success":false,"code":"002003","message":"no table","data":{"sqlState":"42S02"}}`, localsnowflake.ObjectNotFound, "42S02", "no table"},
		{`{"success":false,"code":null,"message":"odd","data":null}`, localsnowflake.ExecutionFailed, "XX000", "odd"},
		{`<html>a page</html>`, localsnowflake.ExecutionFailed, "XX000", "HTTP status 200"},
		{`{"success":true,"data":null}`, localsnowflake.ExecutionFailed, "XX000", "has no result"},
		{`{"success":true,"data":{"rowsetBase64":"` + strings.Repeat("A", 64<<20) + `"}}`, localsnowflake.ExecutionFailed, "XX000", "larger than 64 MiB"},
		{`{"success":false,"message":"` + strings.Repeat("m", 1<<20) + `"}`, localsnowflake.ExecutionFailed, "XX000", "mmm"},
	} {
		e.answers(func(string) string { return tc.answer })
		out := c.query("", "SELECT * FROM t")
		out.want(t, tc.code)
		if out.Data.SQLState != tc.state || !strings.Contains(out.Message, tc.message) || len(out.Message) > 4096 || out.Data.QueryID == "" {
			t.Errorf("got %.300v, want %s and %q", out, tc.state, tc.message)
		}
	}
	if n := len(e.requests(localsnowflake.EndpointLogin)); n != 1 {
		t.Errorf("the engine's session was opened %d times", n)
	}
}

func TestEngine_IsToldWhatOnlyTheAccountKnows(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", `"it's"`)
	c := a.client().open()
	id := c.query("", "SELECT 1").Data.QueryID
	c.query("", "USE ROLE \"it's\"")
	c.query("", "SELECT id, current_user(), Current_Role ( ), CURRENT_WAREHOUSE(), t.current_user(), 'CURRENT_USER()', CURRENT_SCHEMA() FROM t -- CURRENT_USER()")
	c.query("", "CREATE OR REPLACE TEMPORARY VIEW db.s.v AS SELECT 1")
	c.query("", "CREATE TEMP TABLE IF NOT EXISTS s.t (a INT)")
	c.query("", "CREATE TEMPORARY TABLE t (a INT)")
	c.query("", "SELECT * FROM TABLE(RESULT_SCAN('"+id+"')), TABLE(RESULT_SCAN('unknown'))")
	e.wantStatements("SELECT 1",
		"SELECT id, 'SVC', 'it''s', NULL, t.current_user(), 'CURRENT_USER()', CURRENT_SCHEMA() FROM t -- CURRENT_USER()",
		"CREATE OR REPLACE   VIEW db.s.v AS SELECT 1", "CREATE   TABLE IF NOT EXISTS s.t (a INT)", "CREATE TEMPORARY TABLE t (a INT)",
		"SELECT * FROM TABLE(RESULT_SCAN('engine-query')), TABLE(RESULT_SCAN('unknown'))")
}

func TestEngine_UseReachesBothSides(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetRoles("svc", "R")
	c := a.client().open()
	c.query("", "USE ROLE other").want(t, localsnowflake.NoSuchObject)
	for _, sql := range []string{"USE DATABASE db", "USE SCHEMA s", `use "d b".s2`} {
		if out := c.query("", sql); !out.Success {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	e.wantStatements(`CREATE SCHEMA IF NOT EXISTS "DB".PUBLIC`, `USE SCHEMA "DB".PUBLIC`, "USE SCHEMA s", `USE SCHEMA "d b"."S2"`)
}

func TestEngine_PutAndCopyHaveTheirBindings(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	bound := func(sql string, values ...string) {
		bindings := map[string]any{}
		for n, value := range values {
			bindings[fmt.Sprint(n+1)] = map[string]any{"type": "TEXT", "value": value}
		}
		c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": sql, "bindings": bindings})
	}
	bound("PUT 'file:///tmp/f' ? PARALLEL=4", `@"S"`)
	bound("PUT 'file://f.gz' ? PARALLEL=4") // as a driver repeats it
	bound(`COPY INTO identifier(?) FROM (SELECT $1 FROM '@"S"') ON_ERROR=?`, `"T"`, "it's")
	bound("COPY INTO t FROM @s FILE_FORMAT = (TYPE='CSV', NULL_IF=('a', 'b'), SKIP_HEADER=1) MATCH_BY_COLUMN_NAME='CASE_INSENSITIVE', FORCE=TRUE")
	bound("SELECT ?", "value")
	e.wantStatements(`PUT 'file:///tmp/f' @"S" PARALLEL=4`, `PUT 'file://f.gz' @"S" PARALLEL=4`,
		`COPY INTO identifier('"T"') FROM (SELECT $1 FROM @"S") ON_ERROR='it''s'`,
		"COPY INTO t FROM @s FILE_FORMAT = (TYPE='CSV'  NULL_IF=('a', 'b')  SKIP_HEADER=1) MATCH_BY_COLUMN_NAME=CASE_INSENSITIVE, FORCE=TRUE", "SELECT ?")
	for n, r := range e.requests(localsnowflake.EndpointQuery) {
		if has := strings.Contains(r.raw, `"bindings"`); has != (n == 4) {
			t.Errorf("bindings in %s: %v", r.sql, has)
		}
	}
}

func TestEngine_NumberedBindings(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	for _, sql := range []string{
		"SELECT $1, $2", "SELECT :1 WHERE a = :2", "SELECT $2, $1", "SELECT $1, $1", "SELECT $1", "SELECT a:1, $1, ?", "SELECT '$1', $1, $2",
		"INSERT INTO t SELECT $1, PARSE_JSON($2) FROM VALUES (?, ?)",
	} {
		c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": sql, "bindings": map[string]any{
			"1": map[string]any{"type": "TEXT", "value": "a"}, "2": map[string]any{"type": "TEXT", "value": "b"},
		}})
	}
	c.query("", "SELECT $1 FROM @stage")
	e.wantStatements("SELECT ?, ?", "SELECT ? WHERE a = ?", "SELECT $2, $1", "SELECT $1, $1", "SELECT $1", "SELECT a:1, $1, ?", "SELECT '$1', ?, ?",
		"INSERT INTO t SELECT $1, PARSE_JSON($2) FROM VALUES (?, ?)", "SELECT $1 FROM @stage")
}

func TestEngine_GoneIsAFailure(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	used, unused := a.client().open(), a.client().open()
	used.query("", "SELECT 1")
	e.Close()
	for _, c := range []*client{used, unused} {
		out := c.query("", "SELECT 2")
		out.want(t, localsnowflake.ExecutionFailed)
		if !strings.Contains(out.Message, e.URL) || !strings.Contains(out.Message, "Start it again") {
			t.Errorf("it says %q", out.Message)
		}
	}
	used.query("", "SELECT CURRENT_USER()").want(t, localsnowflake.SessionGone) // what it had in the engine is gone
	if out := unused.query("", "SELECT CURRENT_USER()"); !out.Success {
		t.Errorf("a session that had nothing in the engine: %+v", out)
	}
}

func TestEngine_ForgottenSessionEndsTheAccounts(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	c.query("", "BEGIN")
	if !a.Sessions()[0].InTransaction {
		t.Error("the session is not in a transaction")
	}
	e.mu.Lock()
	clear(e.sessions)
	e.mu.Unlock()
	out := c.query("", "INSERT INTO t VALUES (1)")
	out.want(t, localsnowflake.ExecutionFailed)
	if !strings.Contains(out.Message, "log in again") {
		t.Errorf("it says %q", out.Message)
	}
	c.query("", "COMMIT").want(t, localsnowflake.SessionGone)
	if n := len(e.requests(localsnowflake.EndpointLogin)); n != 1 {
		t.Errorf("%d sessions were opened", n)
	}
	if out := a.client().open().query("", "SELECT 1"); !out.Success {
		t.Errorf("a new session: %+v", out)
	}
}

// slow has the engine answer when the returned function is called, or the test ends.
func (e *stubEngine) slow() (release func()) {
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	e.t.Cleanup(release)
	e.answers(func(string) string {
		<-gate
		return ""
	})
	return release
}

func TestEngine_ConnectionLostAfterAnErrorIsNotReused(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	c.query("", "SELECT 1")
	e.mu.Lock()
	e.drops = true
	e.mu.Unlock()
	for range 3 {
		if out := c.query("", "SELECT 2"); out.Success || strings.Contains(out.Message, "gives no answer") {
			t.Errorf("got %+v", out)
		}
	}
	e.mu.Lock()
	e.drops = false
	e.mu.Unlock()
	if out := c.query("", "SELECT 3"); !out.Success {
		t.Errorf("got %+v", out)
	}
}

func TestEngine_SlowStatementTimesOut(t *testing.T) {
	a, e := newAccountWithEngine(t, time.Second)
	c := a.client().open()
	e.slow()
	c.query("", "SELECT 1").want(t, localsnowflake.StatementTimedOut)
	c.query("", "SELECT CURRENT_USER()").want(t, localsnowflake.SessionGone) // the engine may still be at it
}

func TestEngine_SlowStatementIsPolledFor(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	a.SetInProgressAfter(time.Millisecond)
	c := a.client().open()
	release := e.slow()
	out := c.query("", "SELECT 1")
	if out.Code != localsnowflake.StatementInProgress.String() {
		t.Fatalf("got %+v", out)
	}
	release()
	a.SetInProgressAfter(engineTimeout)
	if polled := c.get(t, out.Data.GetResultURL); !polled.Success || polled.Data.RowSet[0][0] != "from the engine" || polled.Data.QueryID != out.Data.QueryID {
		t.Errorf("polled %+v", polled)
	}
}

func (c *client) get(t *testing.T, path string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", `Snowflake Token="`+c.token+`"`)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var out answer
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEngine_AbortedStatementEndsTheSession(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	c.query("", "SELECT 0")
	e.slow()
	done := make(chan answer)
	go func() { done <- c.query("?requestId=1", "SELECT 1") }()
	testenv.Eventually(t, "the engine has the statement", func() bool { return len(e.statements()) == 2 })
	if out := c.mustPost(localsnowflake.EndpointAbort, map[string]any{"requestId": "1"}); !out.Success {
		t.Errorf("aborted: %+v", out)
	}
	out := <-done
	out.want(t, localsnowflake.StatementCanceled)
	testenv.Eventually(t, "the session ends, as the engine goes on", func() bool { return len(a.Sessions()) == 0 })
}

func TestEngine_ClientThatGoesLeavesNothingRunning(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	e.slow()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+localsnowflake.EndpointQuery, strings.NewReader(`{"sqlText":"SELECT 1"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", `Snowflake Token="`+c.token+`"`)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	}()
	testenv.Eventually(t, "the engine has the statement", func() bool { return len(e.statements()) == 1 })
	cancel()
	<-gone
	testenv.Eventually(t, "the session ends", func() bool { return len(a.Sessions()) == 0 })
}

func TestEngine_StatementsOfASessionTakeTurns(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	var mu sync.Mutex
	running, most := 0, 0
	e.answers(func(string) string {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		running--
		mu.Unlock()
		return ""
	})
	c := a.client().open()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if out, err := c.post(localsnowflake.EndpointQuery, map[string]any{"sqlText": "SELECT 1"}); err != nil || !out.Success {
				t.Errorf("got %+v, %v", out, err)
			}
		})
	}
	all.Wait()
	if most != 1 {
		t.Errorf("%d statements ran at a time", most)
	}
}

func TestEngine_SessionsThatEndedMakeRoom(t *testing.T) {
	testenv.Slow(t)
	a, e := newAccountWithEngine(t, engineTimeout)
	for range 256 {
		a.client().open().query("", "SELECT 1")
	}
	a.EndSessions(localsnowflake.SessionGone)
	if out := a.client().open().query("", "SELECT 1"); !out.Success {
		t.Errorf("got %+v", out)
	}
	testenv.Eventually(t, "the engine's sessions are closed", func() bool { return len(e.requests(localsnowflake.EndpointClose)) == 256 })
}

func TestEngine_CloseEndsWhatRuns(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	e.slow()
	done := make(chan answer)
	go func() { done <- c.query("", "SELECT 1") }()
	testenv.Eventually(t, "the engine has the statement", func() bool { return len(e.statements()) == 1 })
	a.Close()
	out := <-done
	out.want(t, localsnowflake.StatementCanceled)
	other := a.client().open()
	other.query("", "SELECT 1").want(t, localsnowflake.StatementCanceled)
}

func TestEngine_DriverUsesIt(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	e.answers(func(sql string) string {
		if strings.HasPrefix(sql, "SELECT") {
			return `{"success":true,"data":{"queryId":"q","rowtype":[{"name":"A","type":"text","nullable":true}],"rowset":[["found"]],"total":1,"returned":1,"queryResultFormat":"json","statementTypeId":4096}}`
		}
		return `{"success":true,"data":{"queryId":"q","rowtype":[{"name":"number of rows inserted","type":"fixed"}],"rowset":[["3"]],"total":1,"returned":1,"queryResultFormat":"json","statementTypeId":12544}}`
	})
	db := a.db()
	if found := queryString(t, db, "SELECT a FROM t"); found != "found" {
		t.Errorf("found %q", found)
	}
	result, err := db.ExecContext(t.Context(), "INSERT INTO t VALUES (?)", "x")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 3 || err != nil {
		t.Errorf("%d rows affected, %v", n, err)
	}
	if who := queryString(t, db, "SELECT CURRENT_USER()"); who != "SVC" {
		t.Errorf("the user is %q", who)
	}
}

func TestEngine_DescribingExecutesNothing(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	for _, sql := range []string{
		"USE DATABASE other", "USE SCHEMA s", "USE other.s", "BEGIN", "COMMIT", "ALTER SESSION SET AUTOCOMMIT=FALSE",
		"CREATE TABLE t (a INT)", "/* a */ create or replace view v as select 1", "CREATE TEMPORARY STAGE s", "DROP TABLE t", "ALTER TABLE t ADD b INT",
		"TRUNCATE TABLE t",
	} {
		if out := c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": sql, "describeOnly": true}); !out.Success || len(out.Data.RowSet) != 0 {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	for _, sql := range []string{
		"COPY INTO t FROM @s", "PUT file:///f @s", "GET @s file:///tmp", "CALL p()", "EXECUTE IMMEDIATE 'x'", "REMOVE @s", "INSERT ALL INTO t SELECT 1",
		"what no parser here understands",
	} {
		out := c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": sql, "describeOnly": true})
		out.want(t, localsnowflake.StatementNotPrepared)
		if !strings.Contains(out.Message, "Execute it") {
			t.Errorf("%s: it says %q", sql, out.Message)
		}
	}
	e.wantStatements()
	if session := a.Sessions()[0]; session.Database != "" || session.InTransaction {
		t.Errorf("the session is %+v", session)
	}
}

func TestEngine_DescribesQueriesAndChangesOfRows(t *testing.T) {
	a, e := newAccountWithEngine(t, engineTimeout)
	c := a.client().open()
	for _, sql := range []string{
		"SELECT a FROM t", "WITH x AS (SELECT 1) SELECT * FROM x", "select 1 from t\nunion all select 2; -- the end", "INSERT INTO t VALUES (?)",
		"UPDATE t SET a = 1", "DELETE FROM t", "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "SHOW TABLES", "DESCRIBE TABLE t",
	} {
		if out := c.mustPost(localsnowflake.EndpointQuery, map[string]any{"sqlText": sql, "describeOnly": true}); !out.Success || len(out.Data.RowSet) != 0 {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	e.wantStatements("SELECT a FROM t", "WITH x AS (SELECT 1) SELECT * FROM x", "SELECT * FROM (select 1 from t\nunion all select 2\n)", "INSERT INTO t VALUES (?)",
		"UPDATE t SET a = 1", "DELETE FROM t", "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "SHOW TABLES", "DESCRIBE TABLE t")
	for _, r := range e.requests(localsnowflake.EndpointQuery) {
		if !strings.Contains(r.raw, `"describeOnly":true`) {
			t.Errorf("executed: %s", r.sql)
		}
	}
}
