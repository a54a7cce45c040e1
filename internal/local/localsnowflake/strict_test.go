package localsnowflake_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// bothWays runs a test with the account alone, and with a SQL engine behind it.
func bothWays(t *testing.T, test func(t *testing.T, a *account, e *stubEngine)) {
	t.Helper()
	t.Run("account alone", func(t *testing.T) { test(t, newAccount(t), nil) })
	t.Run("with a SQL engine", func(t *testing.T) {
		a, e := newAccountWithEngine(t, engineTimeout)
		test(t, a, e)
	})
}

// Each of these would pass in a Snowflake that is kinder than the real one.
func TestStatement_IsRefusedAsSnowflakeRefusesIt(t *testing.T) {
	bothWays(t, func(t *testing.T, a *account, e *stubEngine) {
		a.CreateUserWithLogin("etl", "etl@corp.example")
		a.CreateUser("other")
		a.SetRoles("svc", "loader")
		a.SetRoles("other", "auditor", `"Auditor"`)
		long, longest := strings.Repeat("n", 256), strings.Repeat("é", 255)
		tooLong := "SQL compilation error:\nparse error line 1 at position"
		for name, tc := range map[string]struct {
			sql      string
			code     localsnowflake.Code
			sqlState string
			message  string // begins with
		}{
			"role that nobody has":            {"USE ROLE misspelt", localsnowflake.NoSuchObject, "02000", "SQL compilation error:\nObject does not exist, or operation cannot be performed."},
			"role in lower case":              {`USE ROLE "loader"`, localsnowflake.NoSuchObject, "02000", ""},
			"role of another user":            {"USE ROLE Auditor", localsnowflake.RoleNotAssigned, "42501", "SQL access control error:\nRequested role 'AUDITOR' is not assigned"},
			"exact role of another user":      {`USE ROLE "Auditor"`, localsnowflake.RoleNotAssigned, "42501", "SQL access control error:\nRequested role 'Auditor' is not assigned"},
			"login name for a name":           {`DESC USER "ETL@CORP.EXAMPLE"`, localsnowflake.ObjectNotFound, "02000", ""},
			"change by a login name":          {`ALTER USER "ETL@CORP.EXAMPLE" UNSET RSA_PUBLIC_KEY`, localsnowflake.ObjectNotFound, "02000", ""},
			"name in lower case":              {`ALTER USER "etl" UNSET RSA_PUBLIC_KEY`, localsnowflake.ObjectNotFound, "02000", ""},
			"user of 256 characters":          {"DESC USER " + long, localsnowflake.SyntaxError, "42000", tooLong + " 10 "},
			"user of 256 in quotes":           {`ALTER USER "` + long + `" UNSET RSA_PUBLIC_KEY`, localsnowflake.SyntaxError, "42000", tooLong + " 11 "},
			"user of 256 by IDENTIFIER":       {"DESC USER IDENTIFIER('" + long + "')", localsnowflake.SyntaxError, "42000", ""},
			"user of 255":                     {`DESC USER "` + longest + `"`, localsnowflake.ObjectNotFound, "02000", ""},
			"user of 255 and a doubled quote": {`DESC USER "` + longest[2:] + `"""`, localsnowflake.ObjectNotFound, "02000", ""},
			"key pair of 256":                 {"ALTER USER svc REMOVE KEY PAIR " + long, localsnowflake.SyntaxError, "42000", tooLong + " 31 "},
			"role of 256":                     {"USE ROLE " + long, localsnowflake.SyntaxError, "42000", tooLong},
			"table of 256":                    {"SELECT * FROM " + long, localsnowflake.SyntaxError, "42000", tooLong},
			"alias of 256 in quotes":          {`SELECT 1 AS "` + long + `"`, localsnowflake.SyntaxError, "42000", tooLong},
			"key of 1024 bits":                {"ALTER USER svc SET RSA_PUBLIC_KEY_2='" + weakKey + "'", localsnowflake.PublicKeyRejected, "22023", ""},
			"key pair of 1024 bits":           {"ALTER USER svc ADD KEY PAIR weak PUBLIC_KEY='" + weakKey + "'", localsnowflake.PublicKeyRejected, "22023", ""},
		} {
			t.Run(name, func(t *testing.T) {
				out := a.client().open().query("", tc.sql)
				out.want(t, tc.code)
				if out.Data.SQLState != tc.sqlState || !strings.HasPrefix(out.Message, tc.message) {
					t.Errorf("got %.300v", out)
				}
				if strings.HasPrefix(tc.sql, "USE") {
					return // the SQL API has no USE
				}
				a.execute(tc.sql).want(t, http.StatusUnprocessableEntity, tc.code)
			})
		}
		if e != nil {
			e.wantStatements()
		}
	})
}

func TestLogin_NamesAreReadAsInAStatement(t *testing.T) {
	bothWays(t, func(t *testing.T, a *account, e *stubEngine) {
		a.SetRoles("svc", "loader", `"My role"`)
		cfg := a.config(oldKey())
		cfg.Role, cfg.Warehouse, cfg.Database, cfg.Schema = `"My role"`, `"wh"`, "db", "s"
		db := a.open(cfg)
		a.mustPing(db)
		if got := a.Sessions()[0]; got.Role != "My role" || got.Warehouse != "wh" || got.Database != "DB" || got.Schema != "S" {
			t.Errorf("the session has %+v", got)
		}
		if e == nil {
			return
		}
		want := url.Values{"databaseName": {"DB"}, "schemaName": {"S"}}
		if got := e.requests(localsnowflake.EndpointLogin)[0].query; got.Encode() != want.Encode() {
			t.Errorf("the engine's session has %v, want %v", got, want)
		}
	})
}

func TestLogin_DefaultRoleHasToBeGranted(t *testing.T) {
	bothWays(t, func(t *testing.T, a *account, _ *stubEngine) {
		a.SetRoles("svc", "loader")
		a.SetDefaultRole("svc", "sysadmin")
		const text = "User's configured default role 'SYSADMIN' is not granted to this user. "
		out := a.as("", "SELECT 1")
		out.want(t, http.StatusUnauthorized, localsnowflake.RoleNotGranted)
		refused := wantCode(t, a.db().PingContext(t.Context()), localsnowflake.RoleNotGranted)
		if !strings.HasPrefix(out.Message, text) || !strings.Contains(refused.Message, text) {
			t.Errorf("got %q and %q", out.Message, refused.Message)
		}
		cfg := a.config(oldKey())
		cfg.Role = "loader"
		a.mustPing(a.open(cfg))
		if role := a.as("LOADER", "DESC USER svc").property("DEFAULT_ROLE"); role != "SYSADMIN" {
			t.Errorf("DESC USER shows the default role %s", role)
		}
	})
}

func TestLogin_NameHasAtMost255Characters(t *testing.T) {
	a := newAccount(t)
	login := `{"data":{"AUTHENTICATOR":"SNOWFLAKE_JWT","TOKEN":"` + token(t, oldKey()) + `"}}`
	for _, parameter := range []string{"roleName", "warehouse", "databaseName", "schemaName"} {
		for length, status := range map[int]int{255: http.StatusOK, 256: http.StatusBadRequest} {
			at := localsnowflake.EndpointLogin + "?" + parameter + "=" + strings.Repeat("n", length)
			got := do(t, http.MethodPost, a.url+at, nil, login)
			if got.status != status || (status == http.StatusBadRequest) != (got.body == "Not a valid SQL Identifier.") {
				t.Errorf("%s of %d characters: %d %.100s", parameter, length, got.status, got.body)
			}
		}
	}
	cfg := a.config(oldKey())
	cfg.Schema = strings.Repeat("n", 256)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.open(cfg).PingContext(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a driver is told %v", err)
	}
}

// The driver and the SQL API have the same subject; the first may use its JWT for a minute, the second for an hour.
func TestJWT_IsRefusedAsSnowflakeRefusesIt(t *testing.T) {
	bothWays(t, func(t *testing.T, a *account, _ *stubEngine) {
		a.CreateUserWithLogin("etl", "etl@corp.example")
		a.SetPublicKey("etl", 1, &newKey().PublicKey)
		signer := localsnowflake.Fingerprint(&newKey().PublicKey)
		valid := jwt.MapClaims{"iss": "LOCAL.ETL@CORP.EXAMPLE." + signer, "sub": "LOCAL.ETL@CORP.EXAMPLE"}
		ago := func(age time.Duration) int64 { return time.Now().Add(-age).Unix() }
		const day = 24 * time.Hour
		for name, tc := range map[string]struct {
			changes     jwt.MapClaims
			driver, api localsnowflake.Code
		}{
			"LOGIN_NAME":               {nil, 0, 0},
			"NAME":                     {jwt.MapClaims{"iss": "LOCAL.ETL." + signer, "sub": "LOCAL.ETL"}, localsnowflake.JWTInvalidUserInIssuer, localsnowflake.JWTInvalidUserInIssuer},
			"NAME as the subject":      {jwt.MapClaims{"sub": "LOCAL.ETL"}, localsnowflake.JWTInvalidUserInIssuer, localsnowflake.JWTInvalidUserInIssuer},
			"account in lower case":    {jwt.MapClaims{"iss": "local.ETL@CORP.EXAMPLE." + signer, "sub": "local.ETL@CORP.EXAMPLE"}, localsnowflake.JWTAccountMismatch, localsnowflake.JWTAccountMismatch},
			"user in lower case":       {jwt.MapClaims{"iss": "LOCAL.etl@corp.example." + signer, "sub": "LOCAL.etl@corp.example"}, localsnowflake.JWTInvalidUserInIssuer, localsnowflake.JWTInvalidUserInIssuer},
			"subject in lower case":    {jwt.MapClaims{"sub": "LOCAL.etl@corp.example"}, localsnowflake.JWTInvalidUserInIssuer, localsnowflake.JWTInvalidUserInIssuer},
			"valid for a day":          {jwt.MapClaims{"iat": ago(0), "exp": ago(-day)}, 0, 0},
			"of 59 minutes ago":        {jwt.MapClaims{"iat": ago(59 * time.Minute), "exp": ago(-day)}, localsnowflake.JWTInvalidIssueTime, 0},
			"of more than an hour ago": {jwt.MapClaims{"iat": ago(61 * time.Minute), "exp": ago(-day)}, localsnowflake.JWTInvalidIssueTime, localsnowflake.JWTInvalidIssueTime},
		} {
			t.Run(name, func(t *testing.T) {
				changes := maps.Clone(valid)
				maps.Copy(changes, tc.changes)
				signed := sign(t, jwt.SigningMethodRS256, newKey(), claims(newKey(), changes))
				if out := a.client().login(signed); out.Success != (tc.driver == 0) || !out.Success && out.Code != tc.driver.String() {
					t.Errorf("a driver gets %+v, want code %v", out, tc.driver)
				}
				header := a.headers(newKey())
				header.Set("Authorization", "Bearer "+signed)
				out := a.call(http.MethodPost, localsnowflake.EndpointStatements, header, map[string]any{"statement": "SELECT CURRENT_USER()"})
				if tc.api != 0 {
					out.want(t, http.StatusUnauthorized, tc.api)
				} else if len(out.Data) != 1 || out.Data[0][0] != "ETL" {
					t.Errorf("the SQL API answers %+v", out)
				}
			})
		}
	})
}

func TestUsers_MistakesInATestPanic(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too short on purpose
	if err != nil {
		t.Fatal(err)
	}
	a := newAccount(t)
	long := strings.Repeat("n", 256)
	for name, mistake := range map[string]func(){
		"short key":           func() { a.SetPublicKey("svc", 1, &weak.PublicKey) },
		"short key of a pair": func() { a.AddKeyPair("svc", "weak", &weak.PublicKey) },
		"long name":           func() { a.CreateUser(long) },
		"long role":           func() { a.SetRoles("svc", long) },
		"login name taken":    func() { a.CreateUserWithLogin("other", "svc") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it is accepted")
				}
			}()
			mistake()
		})
	}
}

// redirected is an account that answers requests to the endpoint with a redirect to address.
func redirected(t *testing.T, endpoint, address string, status int) *account {
	t.Helper()
	a := newAccount(t)
	a.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == endpoint {
			return localsnowflake.RedirectTo(address, status)
		}
		return nil
	})
	return a
}

// gosnowflake follows a redirect to any host, and its login has the JWT in the body. Only a header stays behind: the session
// token of a request that goes to another host name.
func TestRedirect_IsFollowedByTheDriver(t *testing.T) {
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		target := newAccount(t)
		a := redirected(t, localsnowflake.EndpointLogin, target.url, status)
		// The session is one of the other account, where the driver sends nothing more.
		wantCode(t, a.db().PingContext(t.Context()), localsnowflake.SessionTokenInvalid)
		if logins := target.Logins(); len(logins) != 1 || logins[0].Code != 0 || len(a.Logins()) != 0 {
			t.Errorf("%d: logins %+v here and %+v there", status, a.Logins(), logins)
		}
	}
	for name, want := range map[string]localsnowflake.Code{"127.0.0.1": 0, "localhost": localsnowflake.SessionTokenInvalid} {
		t.Run("query to "+name, func(t *testing.T) {
			a := newAccount(t)
			address := strings.Replace(a.url, "127.0.0.1", name, 1)
			db := a.db()
			a.mustPing(db)
			once := make(chan struct{}, 1)
			once <- struct{}{}
			a.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				select {
				case <-once:
					return localsnowflake.RedirectTo(address, http.StatusTemporaryRedirect)
				default:
					return nil
				}
			})
			_, err := db.ExecContext(t.Context(), "SELECT 'redirected'")
			if want != 0 {
				wantCode(t, err, want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRedirect_KeepsPathAndQuery(t *testing.T) {
	a := redirected(t, localsnowflake.EndpointStatements, "http://elsewhere.example", http.StatusPermanentRedirect)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+localsnowflake.EndpointStatements+"?async=true", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if at := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect || at != "http://elsewhere.example/api/v2/statements?async=true" {
		t.Errorf("got %d to %s", response.StatusCode, at)
	}
}
