package localsnowflake_test

import (
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

func fingerprintOf(key *rsa.PrivateKey) string { return localsnowflake.Fingerprint(&key.PublicKey) }

// names tells the key pairs of SVC and which key is in each.
func (a *account) names() map[string]string {
	found := map[string]string{}
	for _, k := range a.KeyPairs("svc") {
		found[k.Name] = k.Fingerprint
	}
	return found
}

func (a *account) mustExecute(sql string) statement {
	a.t.Helper()
	out := a.execute(sql)
	if out.status != http.StatusOK {
		a.t.Fatalf("%s: %+v", sql, out)
	}
	return out
}

// accepts tells whether a statement goes through with the key.
func (a *account) accepts(key *rsa.PrivateKey) bool {
	a.t.Helper()
	out := a.call(http.MethodPost, localsnowflake.EndpointStatements, a.headers(key), map[string]any{"statement": "SELECT 1"})
	if out.status != http.StatusOK && out.Code != localsnowflake.JWTFingerprintMismatch.String() {
		a.t.Fatalf("got %+v", out)
	}
	return out.status == http.StatusOK
}

func add(t *testing.T, name string, key *rsa.PrivateKey) string {
	return "ALTER USER svc ADD KEY PAIR " + name + " PUBLIC_KEY='" + spki(t, key) + "'"
}

func rotate(t *testing.T, name string, key *rsa.PrivateKey) string {
	return "ALTER USER svc ROTATE KEY PAIR " + name + " PUBLIC_KEY='" + spki(t, key) + "'"
}

// The whole way, with the driver: what rotates logs in with the key that it replaces.
func TestKeyPair_IsRotatedOverDatabaseSQL(t *testing.T) {
	a := newAccount(t)
	a.UnsetPublicKey("svc", 1)
	a.AddKeyPair("svc", "etl", &oldKey().PublicKey)
	before := a.open(a.config(oldKey()))
	mustExec(t, before, "%s", rotate(t, "etl", newKey()))

	pairs := show(t, before)
	if len(pairs) != 2 {
		t.Fatalf("got %+v", pairs)
	}
	current, rotated := pairs[0], pairs[1]
	if current["name"] != "ETL" || current["fingerprint"] != fingerprintOf(newKey()) || current["status"] != "ACTIVE" ||
		current["user_name"] != "SVC" || current["created_by"] != "SVC" || current["expires_at"] != nil || current["rotated_to"] != nil ||
		current["last_used_on"] != nil || current["role_scope"] != nil || current["comment"] != nil {
		t.Errorf("got %v", current)
	}
	name, _ := rotated["name"].(string)
	expires, ok := rotated["expires_at"].(time.Time)
	if !regexp.MustCompile(`^ETL_ROTATED_\d{13}$`).MatchString(name) || rotated["fingerprint"] != fingerprintOf(oldKey()) ||
		rotated["status"] != "ACTIVE" || rotated["rotated_to"] != "ETL" || rotated["last_used_on"] == nil ||
		!ok || time.Until(expires).Round(time.Hour) != 24*time.Hour {
		t.Errorf("got %v", rotated)
	}

	after := a.open(a.config(newKey()))
	a.mustPing(after)
	a.mustPing(a.open(a.config(oldKey())))
	a.clock.advance(24*time.Hour + time.Second)
	if a.accepts(oldKey()) || len(a.names()) != 1 {
		t.Errorf("the rotated key has not expired: %v", a.names())
	}
}

// show returns the rows of SHOW USER KEY PAIRS by column.
func show(t *testing.T, db *sql.DB) []map[string]any {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SHOW USER KEY PAIRS")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	const want = "name user_name fingerprint role_scope status comment created_on created_by last_used_on expires_at rotated_to"
	if got := strings.Join(columns, " "); got != want {
		t.Fatalf("columns %q", got)
	}
	var out []map[string]any
	for rows.Next() {
		cells, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{}
		for i, column := range columns {
			row[column] = cells[i]
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKeyPair_RotatedKeyLastsAsLongAsAsked(t *testing.T) {
	for _, test := range []struct {
		parameter string
		want      time.Duration
		listed    int // afterwards: one that is disabled at once stays
	}{
		{"", 24 * time.Hour, 1},
		{" EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=2", 2 * time.Hour, 1},
		{" EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS = 0", 0, 2},
	} {
		t.Run(test.parameter, func(t *testing.T) {
			a := newAccount(t)
			a.AddKeyPair("svc", "etl", &newKey().PublicKey)
			a.mustExecute(rotate(t, "etl", otherKey()) + test.parameter)
			if test.want > 0 {
				a.clock.advance(test.want - time.Second)
				if !a.accepts(newKey()) || len(a.names()) != 2 {
					t.Errorf("refused too early: %v", a.names())
				}
				a.clock.advance(2 * time.Second)
			}
			if a.accepts(newKey()) || !a.accepts(otherKey()) || len(a.names()) != test.listed {
				t.Errorf("accepted for too long: %v", a.names())
			}
		})
	}
}

func TestKeyPair_RotationKeepsItsProperties(t *testing.T) {
	a := newAccount(t)
	a.SetRoles("svc", "PUBLIC", "loader")
	a.mustExecute(add(t, "etl", newKey()) + " ROLE_RESTRICTION='LOADER', DAYS_TO_EXPIRY=2 COMMENT='nightly'")
	a.clock.advance(36 * time.Hour)
	a.execute(rotate(t, "etl", otherKey())+" EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=13").
		want(t, http.StatusUnprocessableEntity, localsnowflake.InvalidValue) // 12 are left
	a.mustExecute(rotate(t, "etl", otherKey()))
	pairs := a.KeyPairs("svc")
	current, rotated := pairs[0], pairs[1]
	now := a.clock.now()
	if current.Role != "LOADER" || current.Comment != "nightly" || current.ExpiresAt.Sub(now).Round(time.Hour) != 48*time.Hour {
		t.Errorf("got %+v", current)
	}
	if rotated.ExpiresAt.Sub(now).Round(time.Hour) != 12*time.Hour {
		t.Errorf("rotation made the old key last longer: %+v", rotated)
	}
	a.clock.advance(49 * time.Hour)
	if pairs = a.KeyPairs("svc"); len(pairs) != 1 || pairs[0].Status != localsnowflake.KeyPairExpired || a.accepts(otherKey()) {
		t.Errorf("got %+v", pairs)
	}
}

func TestKeyPair_IsModifiedAndRemoved(t *testing.T) {
	a := newAccount(t)
	a.AddKeyPair("svc", "etl", &newKey().PublicKey)
	modify := "ALTER USER IF EXISTS svc MODIFY KEY PAIR "
	a.mustExecute(modify + "etl SET DISABLED = TRUE, COMMENT='leaked'")
	if pair := a.KeyPairs("svc")[0]; pair.Status != localsnowflake.KeyPairDisabled || pair.Comment != "leaked" || a.accepts(newKey()) {
		t.Errorf("got %+v", pair)
	}
	a.mustExecute(modify + "etl UNSET DISABLED, COMMENT")
	a.mustExecute(modify + "etl RENAME TO load")
	if pair := a.KeyPairs("svc")[0]; pair.Name != "LOAD" || pair.Status != localsnowflake.KeyPairActive || pair.Comment != "" || !a.accepts(newKey()) {
		t.Errorf("got %+v", pair)
	}
	a.mustExecute("ALTER USER REMOVE KEY PAIR load;")
	if a.accepts(newKey()) || len(a.names()) != 0 {
		t.Errorf("not removed: %v", a.names())
	}
	a.mustExecute(`ALTER USER ADD KEY PAIR "load" PUBLIC_KEY=$$` + spki(t, newKey()) + "$$")
	if _, ok := a.names()["load"]; !ok || !a.accepts(newKey()) {
		t.Errorf("got %v", a.names())
	}
}

func TestKeyPair_Refused(t *testing.T) {
	a := newAccount(t)
	a.AddKeyPair("svc", "etl", &newKey().PublicKey)
	a.AddKeyPair("svc", "spare", &otherKey().PublicKey)
	a.mustExecute("ALTER USER svc MODIFY KEY PAIR spare SET DISABLED=TRUE")
	before := a.names()
	for sql, want := range map[string]localsnowflake.Code{
		add(t, "etl", otherKey()):                                                   localsnowflake.ObjectExists,
		add(t, "again", newKey()):                                                   localsnowflake.PublicKeyRejected, // the key of ETL
		add(t, "slot", oldKey()):                                                    localsnowflake.PublicKeyRejected, // the key of RSA_PUBLIC_KEY
		add(t, "public_key_1", otherKey()):                                          localsnowflake.InvalidValue,
		add(t, "x", otherKey()) + " DAYS_TO_EXPIRY=0":                               localsnowflake.InvalidValue,
		add(t, "x", otherKey()) + " DAYS_TO_EXPIRY='1'":                             localsnowflake.InvalidValue,
		add(t, "x", otherKey()) + " NOTE='x'":                                       localsnowflake.InvalidUserProperty,
		add(t, "x", otherKey()) + " ,":                                              localsnowflake.SyntaxError,
		"ALTER USER svc ADD KEY PAIR x":                                             localsnowflake.SyntaxError,
		"ALTER USER svc ADD KEY PAIR x COMMENT='no key'":                            localsnowflake.PublicKeyRejected,
		"ALTER USER svc ADD KEY PAIR x PUBLIC_KEY='AAAA'":                           localsnowflake.PublicKeyRejected,
		"ALTER USER svc ADD KEY PAIR x PUBLIC_KEY=":                                 localsnowflake.SyntaxError,
		"ALTER USER svc ADD KEY PAIR":                                               localsnowflake.SyntaxError,
		rotate(t, "etl", newKey()):                                                  localsnowflake.PublicKeyRejected,
		rotate(t, "nothing", otherKey()):                                            localsnowflake.ObjectNotFound,
		rotate(t, "PUBLIC_KEY_2", otherKey()):                                       localsnowflake.InvalidValue,
		rotate(t, `"etl"`, otherKey()):                                              localsnowflake.ObjectNotFound,
		rotate(t, "etl", otherKey()) + " EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=-1":    localsnowflake.InvalidValue,
		rotate(t, "etl", otherKey()) + " DAYS_TO_EXPIRY=1":                          localsnowflake.InvalidUserProperty,
		"ALTER USER svc REMOVE KEY PAIR nothing":                                    localsnowflake.ObjectNotFound,
		"ALTER USER svc REMOVE KEY PAIR PUBLIC_KEY_1":                               localsnowflake.InvalidValue,
		"ALTER USER svc MODIFY KEY PAIR etl RENAME TO spare":                        localsnowflake.ObjectExists,
		"ALTER USER svc MODIFY KEY PAIR etl RENAME TO public_key_2":                 localsnowflake.InvalidValue,
		"ALTER USER svc MODIFY KEY PAIR nothing SET COMMENT='x'":                    localsnowflake.ObjectNotFound,
		"ALTER USER svc MODIFY KEY PAIR etl SET PUBLIC_KEY='x'":                     localsnowflake.InvalidUserProperty,
		"ALTER USER svc MODIFY KEY PAIR etl":                                        localsnowflake.SyntaxError,
		"ALTER USER nobody ADD KEY PAIR x PUBLIC_KEY='" + spki(t, otherKey()) + "'": localsnowflake.ObjectNotFound,
		"SHOW USER KEY PAIRS FOR USER nobody":                                       localsnowflake.ObjectNotFound,
		"SHOW USER KEY PAIRS FOR":                                                   localsnowflake.SyntaxError,
	} {
		a.execute(sql).want(t, http.StatusUnprocessableEntity, want)
	}
	a.mustExecute("ALTER USER IF EXISTS nobody REMOVE KEY PAIR x")
	if after := a.names(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("a refused statement changed %v to %v", before, after)
	}
}

func TestKeyPair_ThereIsRoomForTen(t *testing.T) {
	testenv.Heavy(t)
	a := newAccount(t)
	for n := range 9 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		a.AddKeyPair("svc", fmt.Sprintf("k%d", n), &key.PublicKey)
	}
	a.mustExecute(rotate(t, "k0", newKey())) // the rotated one is the tenth
	for _, sql := range []string{add(t, "more", otherKey()), rotate(t, "k1", otherKey())} {
		a.execute(sql).want(t, http.StatusUnprocessableEntity, localsnowflake.PublicKeyRejected)
	}
	a.clock.advance(25 * time.Hour)
	a.mustExecute(add(t, "more", otherKey()))
}

func TestKeyPair_RotatedOneCannotBeRotatedAgain(t *testing.T) {
	a := newAccount(t)
	a.AddKeyPair("svc", "etl", &newKey().PublicKey)
	a.mustExecute(rotate(t, "etl", otherKey()))
	rotated := a.KeyPairs("svc")[1].Name
	third, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a.execute(rotate(t, rotated, third)).want(t, http.StatusUnprocessableEntity, localsnowflake.PublicKeyRejected)
	a.mustExecute("ALTER USER svc REMOVE KEY PAIR " + rotated)
	if a.accepts(newKey()) {
		t.Error("a rotated key is accepted after its removal")
	}
}

// Twice within a millisecond, which the server's clock does not tell apart.
func TestKeyPair_RotatedOnesHaveNamesOfTheirOwn(t *testing.T) {
	at := time.Now()
	a := newAccount(t, localsnowflake.WithClock(func() time.Time { return at }))
	a.AddKeyPair("svc", "etl", &newKey().PublicKey)
	third, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a.mustExecute(rotate(t, "etl", otherKey()))
	a.mustExecute(rotate(t, "etl", third))
	if len(a.names()) != 3 {
		t.Errorf("got %v", a.names())
	}
}
