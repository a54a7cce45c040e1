package localsnowflake_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// as executes in a role, with the old key.
func (a *account) as(role, sql string) statement {
	a.t.Helper()
	return a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(oldKey()), map[string]any{"statement": sql, "role": role})
}

func TestStatement_PrivilegeGoesWithARole(t *testing.T) {
	a := newAccount(t)
	a.CreateUser("other")
	a.SetCanAlterUsers("svc", false)
	a.SetRoles("svc", "loader", "key_admin", "owner")
	a.Grant(localsnowflake.ModifyAuthenticationMethods, "svc", "key_admin")
	a.Grant(localsnowflake.ModifyAuthenticationMethods, "other", "key_admin")
	a.Grant(localsnowflake.Ownership, "other", "owner")
	const denied, granted = localsnowflake.AccessDenied, localsnowflake.StatementSucceeded
	for _, test := range []struct {
		sql                         string
		loader, keyAdmin, ownership localsnowflake.Code
	}{
		{"ALTER USER svc SET RSA_PUBLIC_KEY_2='" + spki(t, newKey()) + "'", denied, granted, denied},
		{"ALTER USER SET RSA_PUBLIC_KEY_2='" + spki(t, newKey()) + "'", denied, granted, denied},
		{"ALTER USER UNSET RSA_PUBLIC_KEY_2", denied, granted, denied},
		{"ALTER USER svc MODIFY KEY PAIR etl SET COMMENT='x'", denied, granted, denied},
		{"ALTER USER IF EXISTS other SET RSA_PUBLIC_KEY='" + spki(t, newKey()) + "'", denied, granted, granted},
		{"ALTER USER other SET DISABLED=FALSE", denied, denied, granted},
		{"DESC USER svc", granted, granted, granted},
		{"DESCRIBE USER other", denied, denied, granted},
		{"SHOW USER KEY PAIRS", granted, granted, granted},
		{"SHOW USER KEY PAIRS FOR USER svc", granted, granted, granted},
		{"SHOW USER KEY PAIRS FOR USER other", denied, granted, granted},
	} {
		if len(a.KeyPairs("svc")) == 0 {
			a.AddKeyPair("svc", "etl", &otherKey().PublicKey)
		}
		for role, want := range map[string]localsnowflake.Code{
			"": test.loader, "LOADER": test.loader, "PUBLIC": test.loader, "KEY_ADMIN": test.keyAdmin, "OWNER": test.ownership,
		} {
			out := a.as(role, test.sql)
			if out.Code != want.String() {
				t.Errorf("%s as %q: %+v", test.sql, role, out)
			}
			if want == denied && (out.SQLState != "42501" || !strings.HasPrefix(out.Message, "SQL access control error:\nInsufficient privileges to operate on user '")) {
				t.Errorf("%s as %q: %+v", test.sql, role, out)
			}
		}
	}
	if n := a.Executed("alter user if exists OTHER"); n != 2 {
		t.Errorf("%d executed, want those of KEY_ADMIN and OWNER", n)
	}
}

func TestLogin_RefusesARoleThatTheUserHasNot(t *testing.T) {
	a := newAccount(t)
	a.CreateUser("other")
	a.SetRoles("svc", "loader")
	a.SetRoles("other", "auditor")
	const notGranted, notFound, granted = localsnowflake.RoleNotGranted, localsnowflake.RoleNotFound, localsnowflake.Code(0)
	for role, want := range map[string]struct{ driver, api localsnowflake.Code }{
		"AUDITOR":  {notGranted, notGranted},
		"auditor":  {notGranted, notFound}, // the SQL API does not fold
		"MISSPELT": {notFound, notFound},
		"LOADER":   {granted, granted},
		"loader":   {granted, notFound},
		`"LOADER"`: {granted, notFound},
		`"loader"`: {notFound, notFound},
	} {
		status := http.StatusUnauthorized
		if want.api == granted {
			status, want.api = http.StatusOK, localsnowflake.StatementSucceeded
		}
		a.as(role, "SELECT 1").want(t, status, want.api)
		cfg := a.config(oldKey())
		cfg.Role = role
		if err := a.open(cfg).PingContext(t.Context()); want.driver != granted || err != nil {
			wantCode(t, err, want.driver)
		}
	}
	out := a.as("", "SELECT current_role(), current_available_roles()")
	if out.Data[0][0] != "LOADER" || out.Data[0][1] != `["LOADER","PUBLIC"]` {
		t.Errorf("got %+v", out)
	}
	db := a.db()
	if role := queryString(t, db, "SELECT current_role()"); role != "LOADER" {
		t.Errorf("role %s", role)
	}
	mustExec(t, db, "USE ROLE PUBLIC")
	_, err := db.Exec("USE ROLE AUDITOR")
	if failure := wantCode(t, err, localsnowflake.RoleNotAssigned); failure.SQLState != "42501" {
		t.Errorf("got %+v", failure)
	}
}

func TestKeyPair_MayBeRestrictedToARole(t *testing.T) {
	a := newAccount(t)
	a.SetRoles("svc", "loader", "auditor")
	a.execute(add(t, "x", newKey())+" ROLE_RESTRICTION='nobodys'").want(t, http.StatusUnprocessableEntity, localsnowflake.InvalidValue)
	a.mustExecute(add(t, "x", newKey()) + " ROLE_RESTRICTION='auditor'")
	for role, want := range map[string]localsnowflake.Code{
		"AUDITOR": localsnowflake.StatementSucceeded, "LOADER": localsnowflake.JWTInvalid, "": localsnowflake.JWTInvalid,
	} {
		out := a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(newKey()), map[string]any{"statement": "SELECT 1", "role": role})
		if out.Code != want.String() {
			t.Errorf("%q: %+v", role, out)
		}
	}
}

func TestPrivileges_KeepUsersOut(t *testing.T) {
	for name, test := range map[string]struct {
		change, undo func(*account)
		want         localsnowflake.Code
		message      string
	}{
		"disabled": {
			func(a *account) { a.SetDisabled("svc", true) }, func(a *account) { a.SetDisabled("svc", false) },
			localsnowflake.UserDisabled, "User access disabled. Contact your local system administrator.",
		},
		"disabled by a statement": {
			func(a *account) { a.mustExecute("ALTER USER svc SET DISABLED = TRUE") }, func(a *account) { a.SetDisabled("svc", false) },
			localsnowflake.UserDisabled, "",
		},
		"locked": {
			func(a *account) { a.Lock("svc", time.Minute) }, func(a *account) { a.clock.advance(time.Minute) },
			localsnowflake.UserLocked, "User temporarily locked. Try again later, or contact your local system administrator.",
		},
		"locked by a statement": {
			func(a *account) { a.mustExecute("ALTER USER svc SET MINS_TO_UNLOCK = 5") }, func(a *account) { a.clock.advance(5 * time.Minute) },
			localsnowflake.UserLocked, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			test.change(a)
			out := a.execute("SELECT 1")
			out.want(t, http.StatusUnauthorized, test.want)
			if test.message != "" && out.Message != test.message {
				t.Errorf("message %q", out.Message)
			}
			wantCode(t, a.open(a.config(oldKey())).PingContext(t.Context()), test.want)
			a.execute("SELECT 1").want(t, http.StatusUnauthorized, test.want)
			test.undo(a)
			a.mustExecute("SELECT 1")
		})
	}
}

func TestDescribeUser_ShowsItsProperties(t *testing.T) {
	a := newAccount(t)
	setAt := a.clock.now().UTC().Format("2006-01-02 15:04")
	for _, name := range []string{"svc", "SVC", `"SVC"`, "IDENTIFIER('svc')", `identifier('"SVC"')`} {
		out := a.mustExecute("DESC USER " + name)
		var columns []string
		for _, c := range out.ResultSetMetaData.RowType {
			columns = append(columns, c.Name)
		}
		if got := strings.Join(columns, " "); got != "property value default description" {
			t.Errorf("columns %q", got)
		}
		for property, want := range map[string]string{
			"NAME": "SVC", "DISABLED": "false", "MINS_TO_UNLOCK": "null", "HAS_KEYPAIR": "true", "DEFAULT_ROLE": "null",
			"RSA_PUBLIC_KEY": spki(t, oldKey()), "RSA_PUBLIC_KEY_FP": fingerprintOf(oldKey()),
			"RSA_PUBLIC_KEY_2": "null", "RSA_PUBLIC_KEY_2_FP": "null", "RSA_PUBLIC_KEY_2_LAST_SET_TIME": "null",
		} {
			if got := out.property(property); got != want {
				t.Errorf("%s is %q, want %q", property, got, want)
			}
		}
		if got := out.property("RSA_PUBLIC_KEY_LAST_SET_TIME"); !strings.HasPrefix(got, setAt) || len(got) != len("2026-01-02 15:04:05.000") {
			t.Errorf("last set %q", got)
		}
	}
	for _, name := range []string{"nobody", `"svc"`, `IDENTIFIER('"svc"')`} {
		a.execute("DESCRIBE USER "+name).want(t, http.StatusUnprocessableEntity, localsnowflake.ObjectNotFound)
	}
	setTime := a.mustExecute("DESC USER svc").property("RSA_PUBLIC_KEY_LAST_SET_TIME")
	a.AddKeyPair("svc", "etl", &newKey().PublicKey)
	a.mustExecute("ALTER USER svc UNSET RSA_PUBLIC_KEY")
	out := a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(newKey()), map[string]any{"statement": "DESC USER svc"})
	if out.property("RSA_PUBLIC_KEY_FP") != "null" || out.property("RSA_PUBLIC_KEY_LAST_SET_TIME") != setTime || out.property("HAS_KEYPAIR") != "true" {
		t.Errorf("got %v", out.Data)
	}
}

// Snowflake's own CLI sets keys in PEM and reads them back.
func TestDescribeUser_ShowsAKeyAsItWasWritten(t *testing.T) {
	a := newAccount(t)
	armoured := "-----BEGIN PUBLIC KEY-----\n" + spki(t, newKey()) + "\n-----END PUBLIC KEY-----\n"
	a.mustExecute("ALTER USER svc SET RSA_PUBLIC_KEY_2='" + armoured + "'")
	out := a.mustExecute("DESC USER svc")
	if out.property("RSA_PUBLIC_KEY_2") != armoured || out.property("RSA_PUBLIC_KEY_2_FP") != fingerprintOf(newKey()) {
		t.Errorf("got %v", out.Data)
	}
	a.mustExecute("ALTER USER svc SET RSA_PUBLIC_KEY='" + out.property("RSA_PUBLIC_KEY_2") + "'") // in both slots
	if a.Fingerprints("svc") != [2]string{fingerprintOf(newKey()), fingerprintOf(newKey())} {
		t.Errorf("got %v", a.Fingerprints("svc"))
	}
}

// property is the value that DESC USER shows.
func (s statement) property(name string) string {
	for _, row := range s.Data {
		if row[0] == name {
			return row[1]
		}
	}
	return "there is no property " + name
}
