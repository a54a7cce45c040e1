package localsnowflake_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// What a maintainer does before the first task: a role, a user, and what it takes to rotate the key of that user.
func TestAdministration_CreatesAUserThatRotatesItsOwnKey(t *testing.T) {
	bothWays(t, func(t *testing.T, a *account, e *stubEngine) {
		for _, sql := range []string{
			"CREATE ROLE rotator",
			"CREATE USER etl TYPE = SERVICE LOGIN_NAME = 'etl_login' DEFAULT_ROLE = rotator COMMENT = 'a user' RSA_PUBLIC_KEY = '" + spki(t, newKey()) + "'",
			"GRANT ROLE rotator TO USER etl",
			"GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER etl TO ROLE rotator",
		} {
			if out := a.as("", sql); out.Code != localsnowflake.StatementSucceeded.String() {
				t.Fatalf("%s: %+v", sql, out)
			}
		}
		if got := a.Fingerprints("etl")[0]; got != fingerprintOf(newKey()) {
			t.Errorf("slot 1 has %s", got)
		}
		login := func(sql string) statement {
			t.Helper()
			header, now := a.headers(newKey()), a.clock.now()
			header.Set("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, newKey(), jwt.MapClaims{
				"iss": "LOCAL.ETL_LOGIN." + fingerprintOf(newKey()), "sub": "LOCAL.ETL_LOGIN", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
			}))
			return a.call(http.MethodPost, localsnowflake.EndpointStatements, header, map[string]any{"statement": sql})
		}
		if out := login("SELECT CURRENT_ROLE(), CURRENT_USER()"); len(out.Data) != 1 || out.Data[0][0] != "ROTATOR" || out.Data[0][1] != "ETL" {
			t.Errorf("%+v", out)
		}
		if out := login("ALTER USER etl SET RSA_PUBLIC_KEY_2='" + spki(t, otherKey()) + "'"); out.Code != localsnowflake.StatementSucceeded.String() {
			t.Errorf("%+v", out)
		}
		for _, sql := range []string{"CREATE USER mine", "DROP USER svc", "CREATE ROLE mine", "DROP ROLE rotator", "GRANT ROLE rotator TO USER svc",
			"GRANT OWNERSHIP ON USER svc TO ROLE rotator"} {
			if out := login(sql); out.Code != localsnowflake.AccessDenied.String() || out.SQLState != "42501" {
				t.Errorf("%s by a user that may not: %+v", sql, out)
			}
		}
		for _, sql := range []string{"DROP ROLE rotator", "DROP USER etl", "DROP USER IF EXISTS etl", "DROP ROLE IF EXISTS rotator"} {
			if out := a.as("", sql); out.Code != localsnowflake.StatementSucceeded.String() {
				t.Errorf("%s: %+v", sql, out)
			}
		}
		if out := login("SELECT 1"); !strings.HasPrefix(out.Code, "39") {
			t.Errorf("a dropped user: %+v", out)
		}
		if e != nil && len(e.statements()) > 0 {
			t.Errorf("the engine got %v", e.statements())
		}
	})
}

func TestAdministration_Rejections(t *testing.T) {
	a := newAccount(t)
	a.CreateUserWithLogin("etl", "etl_login")
	a.SetRoles("etl", "loader")
	for sql, want := range map[string]localsnowflake.Code{
		"CREATE USER etl":                                localsnowflake.ObjectExists,
		"CREATE USER IF NOT EXISTS etl":                  localsnowflake.StatementSucceeded,
		"CREATE USER new LOGIN_NAME = 'ETL_Login'":       localsnowflake.ObjectExists,
		"CREATE USER new LOGIN_NAME = 5":                 localsnowflake.InvalidValue,
		"CREATE USER new TYPE = ROBOT":                   localsnowflake.InvalidValue,
		"CREATE USER new COLOUR = 'red'":                 localsnowflake.InvalidUserProperty,
		"CREATE USER new RSA_PUBLIC_KEY = 'none'":        localsnowflake.PublicKeyRejected,
		"CREATE ROLE loader":                             localsnowflake.ObjectExists,
		"CREATE ROLE IF NOT EXISTS loader":               localsnowflake.StatementSucceeded,
		"DROP USER nobody":                               localsnowflake.ObjectNotFound,
		"DROP ROLE nobody":                               localsnowflake.ObjectNotFound,
		"GRANT ROLE nobody TO USER etl":                  localsnowflake.ObjectNotFound,
		"GRANT ROLE loader TO USER nobody":               localsnowflake.ObjectNotFound,
		"GRANT OWNERSHIP ON USER nobody TO ROLE loader":  localsnowflake.ObjectNotFound,
		"GRANT OWNERSHIP ON USER etl TO ROLE nobody":     localsnowflake.ObjectNotFound,
		"GRANT ROLE loader TO ROLE other":                localsnowflake.SyntaxError,
		"GRANT SELECT ON ALL TABLES IN DATABASE x TO me": localsnowflake.SyntaxError,
		"DROP TABLE x":                                   localsnowflake.SyntaxError,
		"CREATE USER":                                    localsnowflake.SyntaxError,
	} {
		if out := a.as("", sql); out.Code != want.String() {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	for sql, want := range map[string]localsnowflake.Code{
		"DROP USER svc":                 localsnowflake.InvalidValue,
		"DROP ROLE PUBLIC":              localsnowflake.AccessDenied,
		"CREATE ROLE PUBLIC":            localsnowflake.ObjectExists,
		"GRANT ROLE PUBLIC TO USER etl": localsnowflake.StatementSucceeded,
	} {
		if out := a.as("", sql); out.Code != want.String() {
			t.Errorf("%s: %+v", sql, out)
		}
	}
	if users := a.as("", "SHOW USERS"); len(users.Data) != 2 {
		t.Errorf("users: %+v", users)
	}
}

// An owner that is granted less stays the owner, and there is one owner at a time.
func TestAdministration_GrantsOnAUser(t *testing.T) {
	a := newAccount(t)
	a.SetRoles("svc", "first", "second")
	disable := func(role string) localsnowflake.Code {
		for code := range map[localsnowflake.Code]bool{localsnowflake.StatementSucceeded: true, localsnowflake.AccessDenied: true} {
			if a.as(role, "ALTER USER etl SET DISABLED=FALSE").Code == code.String() {
				return code
			}
		}
		return 0
	}
	if out := a.as("FIRST", "CREATE USER etl"); out.Code != localsnowflake.StatementSucceeded.String() {
		t.Fatalf("%+v", out)
	}
	a.as("FIRST", "GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER etl TO ROLE first")
	a.SetCanAlterUsers("svc", false)
	if first, second := disable("FIRST"), disable("SECOND"); first != localsnowflake.StatementSucceeded || second != localsnowflake.AccessDenied {
		t.Errorf("the first role: %v, the second: %v", first, second)
	}
	if out := a.as("FIRST", "GRANT OWNERSHIP ON USER etl TO ROLE second"); out.Code != localsnowflake.StatementSucceeded.String() {
		t.Fatalf("%+v", out)
	}
	if first, second := disable("FIRST"), disable("SECOND"); first != localsnowflake.AccessDenied || second != localsnowflake.StatementSucceeded {
		t.Errorf("after another owner, the first role: %v, the second: %v", first, second)
	}
}
