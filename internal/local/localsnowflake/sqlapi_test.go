package localsnowflake_test

import (
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// statement is the union of what the SQL API answers.
type statement struct {
	status int

	ResultSetMetaData struct {
		NumRows int
		Format  string
		RowType []struct{ Name, Type string }
	}
	Data                                                [][]string
	Code, Message, SQLState, StatementHandle, RequestID string
	StatementStatusURL                                  string
	CreatedOn                                           int64
}

// headers are those of a client whose clock is the server's.
func (a *account) headers(key *rsa.PrivateKey) http.Header {
	now := a.clock.now()
	return http.Header{
		"Authorization": {"Bearer " + sign(a.t, jwt.SigningMethodRS256, key, claims(key, jwt.MapClaims{
			"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}))},
		"X-Snowflake-Authorization-Token-Type": {"KEYPAIR_JWT"},
		"User-Agent":                           {"test/1.0"},
		"Accept":                               {"application/json"},
		"Content-Type":                         {"application/json"},
	}
}

func (a *account) call(method, path string, header http.Header, body any) statement {
	a.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	got := do(a.t, method, a.url+path, header, string(encoded))
	out := statement{status: got.status}
	if got.body != "" {
		if err := json.Unmarshal([]byte(got.body), &out); err != nil {
			a.t.Fatalf("%v: %s", err, got.body)
		}
	}
	return out
}

func (a *account) execute(sql string) statement {
	a.t.Helper()
	return a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), map[string]any{"statement": sql, "timeout": 60})
}

func (s statement) want(t *testing.T, status int, code localsnowflake.Code) {
	t.Helper()
	if s.status != status || s.Code != code.String() || s.Message == "" {
		t.Errorf("got %+v, want %d and %v", s, status, code)
	}
}

func TestSQLAPI(t *testing.T) {
	a := newAccount(t)
	out := a.execute("SELECT 1, current_user() AS me")
	out.want(t, http.StatusOK, localsnowflake.StatementSucceeded)
	meta := out.ResultSetMetaData
	if meta.NumRows != 1 || meta.Format != "jsonv2" || len(meta.RowType) != 2 || meta.RowType[0].Type != "fixed" || meta.RowType[1].Name != "ME" {
		t.Errorf("metadata: %+v", meta)
	}
	if len(out.Data) != 1 || out.Data[0][0] != "1" || out.Data[0][1] != "SVC" || out.SQLState != "00000" || out.CreatedOn == 0 {
		t.Errorf("got %+v", out)
	}
	if last := a.Statements()[0]; last.QueryID != out.StatementHandle || last.SessionID != 0 || last.Fingerprint != localsnowflake.Fingerprint(&oldKey().PublicKey) {
		t.Errorf("statement: %+v", last)
	}
	if counters := a.Counters(); counters.TokensAccepted != 1 || counters.LoginsAccepted != 0 {
		t.Errorf("counters: %+v", counters)
	}
	a.SetRoles("svc", "admin")
	out = a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), map[string]any{
		"statement": "SELECT ?, current_role()", "role": "ADMIN", "bindings": map[string]any{"1": map[string]string{"type": "TEXT", "value": "x"}},
	})
	if out.status != http.StatusOK || out.Data[0][0] != "x" || out.Data[0][1] != "ADMIN" {
		t.Errorf("got %+v", out)
	}
}

func TestSQLAPI_RotatesKeys(t *testing.T) {
	a := newAccount(t)
	a.execute("ALTER USER svc SET RSA_PUBLIC_KEY_2='"+spki(t, newKey())+"'").want(t, http.StatusOK, localsnowflake.StatementSucceeded)
	header := a.headers(newKey())
	unset := map[string]any{"statement": "ALTER USER svc UNSET RSA_PUBLIC_KEY"}
	a.call(http.MethodPost, localsnowflake.EndpointStatements, header, unset).want(t, http.StatusOK, localsnowflake.StatementSucceeded)
	a.execute("SELECT 1").want(t, http.StatusUnauthorized, localsnowflake.JWTFingerprintMismatch)
	properties := a.call(http.MethodPost, localsnowflake.EndpointStatements, header, map[string]any{"statement": "DESC USER svc"})
	found := map[string]string{}
	for _, row := range properties.Data {
		found[row[0]] = row[1]
	}
	if found["RSA_PUBLIC_KEY_FP"] != "null" || found["RSA_PUBLIC_KEY_2_FP"] != localsnowflake.Fingerprint(&newKey().PublicKey) {
		t.Errorf("DESC USER: %v", found)
	}
}

func TestSQLAPI_RefusesTokens(t *testing.T) {
	a := newAccount(t)
	hour := func(age time.Duration) string {
		issued := time.Now().Add(-age)
		return sign(t, jwt.SigningMethodRS256, oldKey(), claims(oldKey(), jwt.MapClaims{
			"iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix(),
		}))
	}
	for name, test := range map[string]struct {
		change http.Header
		status int
		code   localsnowflake.Code
	}{
		"no JWT":            {http.Header{"Authorization": {"Bearer x"}}, 401, localsnowflake.JWTInvalid},
		"nothing":           {http.Header{"Authorization": nil}, 401, localsnowflake.AuthorizationMissing},
		"wrong key":         {http.Header{"Authorization": {"Bearer " + token(t, otherKey())}}, 401, localsnowflake.JWTFingerprintMismatch},
		"OAuth":             {http.Header{"X-Snowflake-Authorization-Token-Type": {"OAUTH"}}, 401, localsnowflake.OAuthAccessTokenInvalid},
		"no User-Agent":     {http.Header{"User-Agent": {""}}, 400, localsnowflake.UserAgentMissing},
		"no Accept":         {http.Header{"Accept": nil}, 400, localsnowflake.UnsupportedAccept},
		"too old":           {http.Header{"Authorization": {"Bearer " + hour(61*time.Minute)}}, 401, localsnowflake.JWTInvalidIssueTime},
		"used for a while":  {http.Header{"Authorization": {"Bearer " + hour(50*time.Minute)}}, 200, localsnowflake.StatementSucceeded},
		"type not said":     {http.Header{"X-Snowflake-Authorization-Token-Type": nil}, 200, localsnowflake.StatementSucceeded},
		"anything accepted": {http.Header{"Accept": {"*/*"}}, 200, localsnowflake.StatementSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			header := a.headers(oldKey())
			maps.Copy(header, test.change)
			a.call(http.MethodPost, localsnowflake.EndpointStatements, header, map[string]any{"statement": "SELECT 1"}).want(t, test.status, test.code)
		})
	}
	header := a.headers(oldKey())
	header.Set("Content-Type", "text/plain")
	if out := a.call(http.MethodPost, localsnowflake.EndpointStatements, header, nil); out.status != http.StatusUnsupportedMediaType {
		t.Errorf("got %+v", out)
	}
}

func TestSQLAPI_Failures(t *testing.T) {
	a := newAccount(t)
	out := a.execute("FOO")
	out.want(t, http.StatusUnprocessableEntity, localsnowflake.SyntaxError)
	if out.SQLState != "42000" || out.StatementHandle == "" {
		t.Errorf("got %+v", out)
	}
	for _, sql := range []string{"USE ROLE x", "BEGIN", "COMMIT", "ALTER SESSION SET x=1"} {
		a.execute(sql).want(t, http.StatusUnprocessableEntity, localsnowflake.StatementUnsupported)
	}
	a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), "text").want(t, http.StatusBadRequest, localsnowflake.InvalidPayload)
	a.call(http.MethodGet, localsnowflake.EndpointStatements+"/unknown", a.headers(oldKey()), nil).want(t, http.StatusUnprocessableEntity, localsnowflake.StatementNotFound)

	a.SetQueryLatency(time.Hour)
	out = a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), map[string]any{"statement": "SELECT 1", "timeout": 1})
	out.want(t, http.StatusRequestTimeout, localsnowflake.StatementTimedOut)

	a.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
		return &localsnowflake.Fault{Code: localsnowflake.JWTInvalid}
	})
	a.execute("SELECT 1").want(t, http.StatusUnauthorized, localsnowflake.JWTInvalid)
}

func TestSQLAPI_HidesTheReason(t *testing.T) {
	a := newAccount(t, localsnowflake.WithGenericLoginErrors())
	a.UnsetPublicKey("svc", 1)
	out := a.execute("SELECT 1")
	out.want(t, http.StatusUnauthorized, localsnowflake.JWTInvalid)
	if !strings.HasPrefix(out.Message, "JWT token is invalid. [") {
		t.Errorf("message %q", out.Message)
	}
}

func TestSQLAPI_StatementThatTakesLong(t *testing.T) {
	a := newAccount(t)
	a.SetInProgressAfter(10 * time.Millisecond)
	running := a.execute("SELECT SYSTEM$WAIT(100, 'MILLISECONDS')")
	running.want(t, http.StatusAccepted, localsnowflake.StatementInProgressAsync)
	var out statement
	waitFor(t, func() bool {
		out = a.call(http.MethodGet, running.StatementStatusURL, a.headers(oldKey()), nil)
		return out.status != http.StatusAccepted
	})
	if out.status != http.StatusOK || out.Data[0][0] != "waited 100 milliseconds" {
		t.Errorf("got %+v", out)
	}

	path := localsnowflake.EndpointStatements + "?async=true"
	running = a.call(http.MethodPost, path, a.headers(oldKey()), map[string]any{"statement": "SELECT SYSTEM$WAIT(30)"})
	running.want(t, http.StatusAccepted, localsnowflake.StatementInProgressAsync)
	cancel := localsnowflake.EndpointStatements + "/" + running.StatementHandle + "/cancel"
	a.call(http.MethodPost, cancel, a.headers(oldKey()), nil).want(t, http.StatusOK, localsnowflake.StatementCanceled)
	a.call(http.MethodGet, running.StatementStatusURL, a.headers(oldKey()), nil).want(t, http.StatusUnprocessableEntity, localsnowflake.StatementCanceled)
	a.call(http.MethodPost, cancel, a.headers(oldKey()), nil).want(t, http.StatusUnprocessableEntity, localsnowflake.StatementNotExecuting)
}

func TestSQLAPI_Retry(t *testing.T) {
	a := newAccount(t)
	path := localsnowflake.EndpointStatements + "?requestId=r1"
	first := a.call(http.MethodPost, path, a.headers(oldKey()), map[string]any{"statement": "SELECT 1"})
	retried := a.call(http.MethodPost, path+"&retry=true", a.headers(oldKey()), map[string]any{"statement": "SELECT 1"})
	if first.RequestID != "r1" || retried.StatementHandle != first.StatementHandle || retried.status != http.StatusOK {
		t.Errorf("got %+v and %+v", first, retried)
	}
	if n := a.Counters().StatementsExecuted; n != 1 {
		t.Errorf("%d statements executed", n)
	}
}
