package localsnowflake_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

type reply struct {
	status int
	body   string
}

func do(t *testing.T, method, url string, header http.Header, body string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, string(content)}
}

func TestRetry_RepeatsTheRequestID(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	first := c.query("?requestId=r1", "SELECT 1")
	retried := c.query("?requestId=r1&retryCount=1", "SELECT 1")
	if retried.Data.QueryID != first.Data.QueryID || !retried.Success {
		t.Errorf("the retry got %+v, not %+v", retried, first)
	}
	if last := a.Statements()[0]; last.Requests != 2 || last.Executions != 1 || last.RequestID != "r1" {
		t.Errorf("statement: %+v", last)
	}
	again := c.query("?requestId=r1", "SELECT 1") // does not say that it is a retry
	if again.Data.QueryID == first.Data.QueryID {
		t.Error("it was not executed again")
	}
	if last := a.Statements()[1]; last.Requests != 3 || last.Executions != 2 {
		t.Errorf("statement: %+v", last)
	}
	if out := c.query("?requestId=r2&retryCount=1", "SELECT 2"); out.Data.RowSet[0][0] != "2" {
		t.Errorf("a retry of nothing got %+v", out)
	}
}

func TestRetry_JoinsWhatStillRuns(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	answers := make(chan answer)
	go func() { answers <- c.query("?requestId=r1", "SELECT SYSTEM$WAIT(200, 'MILLISECONDS')") }()
	waitFor(t, func() bool { return len(a.Statements()) == 1 })
	joined := c.query("?requestId=r1&retryCount=1", "SELECT SYSTEM$WAIT(200, 'MILLISECONDS')")
	if first := <-answers; first.Data.QueryID != joined.Data.QueryID || !joined.Success {
		t.Errorf("got %+v and %+v", first, joined)
	}
	if n := a.Counters().StatementsExecuted; n != 1 {
		t.Errorf("%d statements executed", n)
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for range 1000 {
		if condition() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("gave up waiting")
}

func TestAbort(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	answers := make(chan answer)
	go func() { answers <- c.query("?requestId=r1", "SELECT SYSTEM$WAIT(30)") }()
	waitFor(t, func() bool { return len(a.Statements()) == 1 })
	if out := c.mustPost(localsnowflake.EndpointAbort, map[string]any{"requestId": "r1"}); !out.Success {
		t.Errorf("abort: %+v", out)
	}
	aborted := <-answers
	aborted.want(t, localsnowflake.StatementCanceled)
	if aborted.Data.SQLState != "57014" || aborted.Data.QueryID == "" {
		t.Errorf("got %+v", aborted)
	}
	for _, id := range []string{"r1", "unknown"} {
		c.mustPost(localsnowflake.EndpointAbort, map[string]any{"requestId": id}).want(t, localsnowflake.StatementNotExecuting)
	}
}

func TestStatement_Failed(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	for query, want := range map[string]struct {
		code     localsnowflake.Code
		sqlState string
		message  string
	}{
		"":                                       {localsnowflake.StatementEmpty, "42601", ""},
		"FOO":                                    {localsnowflake.SyntaxError, "42000", "SQL compilation error:\nsyntax error line 1 at position 0 unexpected 'FOO'."},
		"SELECT\n 1 2":                           {localsnowflake.SyntaxError, "42000", "SQL compilation error:\nsyntax error line 2 at position 3 unexpected '2'."},
		"SELECT 'open":                           {localsnowflake.SyntaxError, "42000", "SQL compilation error:\nparse error line 1 at position 7 near '12'."},
		"SELECT 1.5.2":                           {localsnowflake.SyntaxError, "42000", ""},
		"SELECT * FROM VALUES":                   {localsnowflake.SyntaxError, "42000", ""},
		"SELECT * FROM VALUES (1, 2), (3)":       {localsnowflake.SyntaxError, "42000", ""},
		"SELECT * FROM VALUES (?)":               {localsnowflake.BindVariableNotSet, "42601", ""},
		"SELECT ?":                               {localsnowflake.BindVariableNotSet, "42601", ""},
		"SELECT 1; SELECT 2":                     {localsnowflake.StatementCountMismatch, "0A000", "Actual statement count 2 did not match the desired statement count 1."},
		"SELECT 1 FROM db.t":                     {localsnowflake.ObjectNotFound, "42S02", "SQL compilation error:\nObject 'DB.T' does not exist or not authorized."},
		"select * from t":                        {localsnowflake.ObjectNotFound, "42S02", ""},
		"SELECT SYSTEM$WAIT(1, 'fortnights')":    {localsnowflake.SyntaxError, "42000", ""},
		"INSERT INTO t VALUES (1)":               {localsnowflake.ObjectNotFound, "42S02", ""},
		"INSERT INTO t (a, b) VALUES (1, 2)":     {localsnowflake.ObjectNotFound, "42S02", ""},
		"INSERT INTO t (a, b) VALUES (1)":        {localsnowflake.ColumnCountMismatch, "21S01", "SQL compilation error:\nInsert value list does not match column list expecting 2 but got 1"},
		"INSERT INTO t (a, ) VALUES (1)":         {localsnowflake.SyntaxError, "42000", ""},
		"DESC USER nobody":                       {localsnowflake.ObjectNotFound, "02000", "SQL compilation error:\nUser 'NOBODY' does not exist or not authorized."},
		"ALTER USER nobody UNSET RSA_PUBLIC_KEY": {localsnowflake.ObjectNotFound, "02000", ""},
		`ALTER USER "svc" UNSET RSA_PUBLIC_KEY`:  {localsnowflake.ObjectNotFound, "02000", ""},
		"ALTER USER svc":                         {localsnowflake.SyntaxError, "42000", ""},
		"ALTER USER svc SET PASSWORD='x'":        {localsnowflake.InvalidUserProperty, "22023", ""},
		"ALTER USER svc SET RSA_PUBLIC_KEY":      {localsnowflake.SyntaxError, "42000", ""},
		"ALTER USER svc SET RSA_PUBLIC_KEY=5":    {localsnowflake.InvalidValue, "22023", "SQL compilation error:\ninvalid value [5] for parameter 'RSA_PUBLIC_KEY'"},
		"ALTER USER svc SET DISABLED='TRUE'":     {localsnowflake.InvalidValue, "22023", "SQL compilation error:\ninvalid value ['TRUE'] for parameter 'DISABLED'"},
		"ALTER USER svc SET MINS_TO_UNLOCK=1.5":  {localsnowflake.InvalidValue, "22023", ""},
		"ALTER USER svc SET RSA_PUBLIC_KEY='-----BEGIN PRIVATE KEY-----\n" + spki(t, newKey()) + "\n-----END PRIVATE KEY-----'": {localsnowflake.PublicKeyRejected, "22023", ""},
		"ALTER USER svc SET RSA_PUBLIC_KEY='AAAA'":                                                  {localsnowflake.PublicKeyRejected, "22023", "SQL execution error:\nNew public key rejected by current policy. Reason: 'Invalid Public key'"},
		"ALTER USER svc SET RSA_PUBLIC_KEY='-----BEGIN PUBLIC KEY-----\n" + spki(t, newKey()) + "'": {localsnowflake.PublicKeyRejected, "22023", ""},
		"ALTER USER svc SET RSA_PUBLIC_KEY='" + ellipticKey + "'":                                   {localsnowflake.PublicKeyRejected, "22023", "SQL execution error: The provided public key uses an unsupported key algorithm."},
		"ALTER USER svc SET RSA_PUBLIC_KEY='" + weakKey + "'":                                       {localsnowflake.PublicKeyRejected, "22023", "SQL execution error:\nNew public key rejected by current policy. Reason: 'Key length 1024 is smaller than minimal requirement of 2048.'"},
		"ALTER USER svc SET RSA_PUBLIC_KEY_2='" + spki(t, newKey()) + "' RSA_PUBLIC_KEY='x'":        {localsnowflake.PublicKeyRejected, "22023", ""},
	} {
		out := c.query("", query)
		out.want(t, want.code)
		if out.Data.SQLState != want.sqlState || out.Data.QueryID == "" {
			t.Errorf("%s: %+v", query, out)
		}
		if want.message != "" && out.Message != want.message {
			t.Errorf("%s: %q", query, out.Message)
		}
	}
	if a.Fingerprints("svc") != [2]string{localsnowflake.Fingerprint(&oldKey().PublicKey), ""} {
		t.Error("a failed statement changed a key")
	}
}

// Public keys that Snowflake does not take: RSA of 1024 bits, and P-256.
const (
	weakKey = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCuwp3vcQXRjswg3+pjtN+Y2iEDYMfuN0yidcFMloJdlHbgxc/eor4Ul1bmgCXkhz+uxEMi" +
		"Ij1ScdY9PIS1SNC+XmJCw0XoufJYiqrWY8iuD5sGvyy5cSEhI3kztkJogGgA/zIBVsHr+djQcuMbJbJy6/09bLF0brRGvjl9br9hbQIDAQAB"
	ellipticKey = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqy37azt+WVOIVzLg0GjM/ZgfamoAyJu8r446WjZXNXKeTSej+yI1IWNzAODdnwxM8wahte27O9PxlUbROEzxWg=="
)

func TestStatement_Accepted(t *testing.T) {
	a := newAccount(t)
	a.CreateUser("QUOTED")
	a.SetRoles("svc", "r")
	c := a.client().open()
	broken := spki(t, newKey())[:64] + "\n" + spki(t, newKey())[64:]
	for _, query := range []string{
		"BEGIN", "begin transaction", "BEGIN WORK NAME t1", "START TRANSACTION", "COMMIT", "commit work", "ROLLBACK;",
		"ALTER SESSION SET TIMEZONE = 'UTC', autocommit=true", "ALTER SESSION UNSET TIMEZONE;",
		"USE ROLE r", "USE WAREHOUSE w", "USE db", "USE DATABASE db", "USE SCHEMA db.s", "USE SECONDARY ROLES ALL",
		"/* hint */ SELECT -- why\n -1", ";;SELECT 1;;", "SELECT current_timestamp", "CALL SYSTEM$WAIT(0)",
		"select system$cancel_all_queries(1234)",
		`ALTER USER "QUOTED" SET RSA_PUBLIC_KEY='` + broken + `'`,
		"ALTER USER svc SET RSA_PUBLIC_KEY_2='" + spki(t, oldKey()) + "'", // the same key in both slots
		"ALTER USER svc UNSET RSA_PUBLIC_KEY, RSA_PUBLIC_KEY_2",
		"ALTER USER svc SET RSA_PUBLIC_KEY='', RSA_PUBLIC_KEY_2=NULL",
		"ALTER USER svc SET RSA_PUBLIC_KEY=$$" + spki(t, newKey()) + "$$",
		"ALTER USER svc UNSET RSA_PUBLIC_KEY, DISABLED, MINS_TO_UNLOCK",
		"ALTER USER IF EXISTS nobody UNSET RSA_PUBLIC_KEY",
		"DESCRIBE USER svc", `desc user "SVC"`,
	} {
		if out := c.query("", query); !out.Success || len(out.Data.RowSet) == 0 || out.Data.QueryID == "" {
			t.Errorf("%s: %+v", query, out)
		}
	}
	if got := a.Fingerprints("quoted")[0]; got != localsnowflake.Fingerprint(&newKey().PublicKey) {
		t.Errorf("fingerprint %s", got)
	}
	if role := a.Sessions()[0].Role; role != "R" {
		t.Errorf("role %s", role)
	}
}

func TestFaults(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	var seen atomic.Pointer[localsnowflake.Request]
	inject := func(f *localsnowflake.Fault) {
		a.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault { seen.Store(&r); return f })
	}

	inject(&localsnowflake.Fault{Code: 1234, SQLState: "XX000", Message: "broken"})
	if out := c.query("?requestId=r1&retryCount=2", "SELECT 1"); out.Code != "001234" || out.Data.SQLState != "XX000" || out.Message != "broken" {
		t.Errorf("got %+v", out)
	}
	want := localsnowflake.Request{
		Endpoint: localsnowflake.EndpointQuery, RequestID: "r1", Retry: 2, User: "SVC", Statement: "SELECT 1",
		Fingerprint: localsnowflake.Fingerprint(&oldKey().PublicKey), SessionID: a.Sessions()[0].ID,
	}
	if *seen.Load() != want {
		t.Errorf("the hook saw %+v, want %+v", *seen.Load(), want)
	}

	inject(&localsnowflake.Fault{Code: localsnowflake.SessionGone})
	c.query("", "SELECT 1").want(t, localsnowflake.SessionGone)
	c.mustPost(localsnowflake.EndpointHeartbeat, nil).want(t, localsnowflake.SessionGone)
	c.renew(c.master).want(t, localsnowflake.SessionGone)
	c.login(token(t, oldKey())).want(t, localsnowflake.SessionGone)

	inject(&localsnowflake.Fault{Status: 429})
	if out := c.query("", "SELECT 1"); out.status != 429 {
		t.Errorf("got %+v", out)
	}
	inject(&localsnowflake.Fault{Drop: true})
	if out, err := c.post(localsnowflake.EndpointQuery, map[string]any{"sqlText": "SELECT 1"}); err == nil {
		t.Errorf("got %+v", out)
	}
	if n := len(a.Statements()); n != 0 {
		t.Fatalf("%d statements", n)
	}

	inject(&localsnowflake.Fault{Status: 502, After: true})
	if out := c.query("", "SELECT 1"); out.status != 502 {
		t.Errorf("got %+v", out)
	}
	if n := len(a.Statements()); n != 1 {
		t.Errorf("%d statements", n)
	}
	inject(&localsnowflake.Fault{Delay: 20 * time.Millisecond})
	began := time.Now()
	if out := c.query("", "SELECT 1"); !out.Success || time.Since(began) < 20*time.Millisecond {
		t.Errorf("got %+v after %v", out, time.Since(began))
	}
	a.Intercept(nil)
	if out := c.query("", "SELECT 1"); !out.Success {
		t.Errorf("got %+v", out)
	}
}

func TestStatement_IsHiddenFromOthers(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	queryID := c.query("", "SELECT 1").Data.QueryID
	get := func(token string) string {
		return do(t, http.MethodGet, a.url+"/queries/"+queryID+"/result", http.Header{"Authorization": {`Snowflake Token="` + token + `"`}}, "").body
	}
	if out := get(c.token); !strings.Contains(out, `"rowset":[["1"]]`) {
		t.Errorf("got %s", out)
	}
	if out := get("forged"); !strings.Contains(out, `"code":"390104"`) {
		t.Errorf("got %s", out)
	}
	a.CreateUser("other")
	a.SetPublicKey("other", 1, &newKey().PublicKey)
	other := a.client()
	out := other.login(sign(t, jwt.SigningMethodRS256, newKey(), claims(newKey(), jwt.MapClaims{
		"iss": "LOCAL.OTHER." + localsnowflake.Fingerprint(&newKey().PublicKey), "sub": "LOCAL.OTHER",
	})))
	if out := get(out.Data.Token); !strings.Contains(out, `"code":"000709"`) {
		t.Errorf("got %s", out)
	}
}

func TestServer_RefusesUnknownPathsAndMethods(t *testing.T) {
	a := newAccount(t)
	if out := do(t, http.MethodGet, a.url+"/", nil, ""); out.status != http.StatusNotFound {
		t.Errorf("got %+v", out)
	}
	if out := do(t, http.MethodGet, a.url+localsnowflake.EndpointLogin, nil, ""); out.status != http.StatusMethodNotAllowed {
		t.Errorf("got %+v", out)
	}
}

func TestQuery_TooLargeIsRefusedAsAWhole(t *testing.T) {
	testenv.Slow(t)
	a := newAccount(t)
	const limit = 16 << 20
	body := func(size int) map[string]any {
		frame, err := json.Marshal(map[string]any{"sqlText": "SELECT ?", "bindings": bindings("")})
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"sqlText": "SELECT ?", "bindings": bindings(strings.Repeat("x", size-len(frame)))}
	}
	for _, zipped := range []bool{false, true} {
		c := a.client().open()
		c.gzip = zipped
		if out := c.mustPost(localsnowflake.EndpointQuery, body(limit)); !out.Success {
			t.Errorf("gzip %v: %.200v", zipped, out)
		}
		for _, size := range []int{limit + 1, 2 * limit} {
			out := c.mustPost(localsnowflake.EndpointQuery, body(size))
			out.want(t, localsnowflake.InvalidPayload)
			if !strings.Contains(out.Message, "larger than 16 MiB") || !strings.Contains(out.Message, "COPY") || out.Data.SQLState == "" {
				t.Errorf("gzip %v: %.200v", zipped, out)
			}
		}
	}
	out := a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), body(2*limit))
	out.want(t, http.StatusBadRequest, localsnowflake.InvalidPayload)
	if !strings.Contains(out.Message, "larger than 16 MiB") {
		t.Errorf("SQL API: %.200v", out)
	}
}

func bindings(value string) map[string]any {
	return map[string]any{"1": map[string]any{"type": "TEXT", "value": value}}
}
