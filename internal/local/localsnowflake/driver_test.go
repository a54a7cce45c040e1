package localsnowflake_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

func spki(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func TestDriver_OpensAndClosesASession(t *testing.T) {
	a := newAccount(t)
	a.SetRoles("svc", "loader")
	cfg := a.config(oldKey())
	cfg.Role, cfg.Warehouse, cfg.Database, cfg.Schema = "LOADER", "WH", "DB", "S"
	db := a.open(cfg)
	a.mustPing(db)

	sessions := a.Sessions()
	if len(sessions) != 1 || sessions[0].User != "SVC" || sessions[0].Fingerprint != localsnowflake.Fingerprint(&oldKey().PublicKey) {
		t.Fatalf("sessions: %+v", sessions)
	}
	logins := a.Logins()
	if len(logins) != 1 || logins[0].Code != 0 || logins[0].SessionID != sessions[0].ID {
		t.Fatalf("logins: %+v", logins)
	}
	for query, want := range map[string]string{
		"SELECT current_user()":      "SVC",
		"select CURRENT_ROLE()":      "LOADER",
		"select current_warehouse()": "WH",
		"select current_database()":  "DB",
		"select current_schema()":    "S",
		"select current_account()":   "LOCAL",
		"select current_version()":   "9.32.0",
		" select 'it''s' ; ":         "it's",
		"select 42 as answer":        "42",
	} {
		if got := queryString(t, db, query); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	var at time.Time
	if err := db.QueryRow("SELECT current_timestamp()").Scan(&at); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("current_timestamp: %v, %v", at, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if open := a.Sessions(); len(open) != 0 {
		t.Errorf("after Close: %+v", open)
	}
}

func TestDriver_LearnsWhyALoginIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*account, *gosnowflake.Config)
		opts   []localsnowflake.Option
		want   localsnowflake.Code
	}{
		"key of nobody": {
			change: func(_ *account, cfg *gosnowflake.Config) { cfg.PrivateKey = otherKey() },
			want:   localsnowflake.JWTFingerprintMismatch,
		},
		"key removed": {
			change: func(a *account, _ *gosnowflake.Config) { a.UnsetPublicKey("svc", 1) },
			want:   localsnowflake.JWTFingerprintMismatch,
		},
		"unknown user": {
			change: func(_ *account, cfg *gosnowflake.Config) { cfg.User = "nobody" },
			want:   localsnowflake.JWTInvalidUserInIssuer,
		},
		"another account": {
			change: func(_ *account, cfg *gosnowflake.Config) { cfg.Account = "remote" },
			want:   localsnowflake.JWTAccountMismatch,
		},
		"slow clock": {
			change: func(a *account, _ *gosnowflake.Config) { a.clock.advance(2 * time.Minute) },
			want:   localsnowflake.JWTInvalidIssueTime,
		},
		"fast clock": {
			change: func(a *account, _ *gosnowflake.Config) { a.clock.advance(-2 * time.Minute) },
			want:   localsnowflake.JWTInvalidIssueTime,
		},
		"generic": {
			change: func(_ *account, cfg *gosnowflake.Config) { cfg.PrivateKey = otherKey() },
			opts:   []localsnowflake.Option{localsnowflake.WithGenericLoginErrors()},
			want:   localsnowflake.JWTInvalid,
		},
		"password": {
			change: func(_ *account, cfg *gosnowflake.Config) {
				cfg.Authenticator, cfg.Password = gosnowflake.AuthTypeSnowflake, "secret"
			},
			want: localsnowflake.IncorrectCredentials,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t, test.opts...)
			cfg := a.config(oldKey())
			test.change(a, &cfg)
			err := a.open(cfg).PingContext(t.Context())
			if failure := wantCode(t, err, test.want); failure.SQLState != "08004" {
				t.Errorf("sqlState %s", failure.SQLState)
			}
			if refused := a.Counters().LoginsRefused; refused != 1 {
				t.Errorf("%d logins refused, want 1", refused)
			}
		})
	}
}

func TestLogin_GenericErrorsHideTheReasonFromTheClientOnly(t *testing.T) {
	a := newAccount(t, localsnowflake.WithGenericLoginErrors())
	err := a.open(a.config(otherKey())).PingContext(t.Context())
	if failure := wantCode(t, err, localsnowflake.JWTInvalid); !strings.HasPrefix(failure.Message, "JWT token is invalid. [") {
		t.Errorf("message %q", failure.Message)
	}
	signer := localsnowflake.Fingerprint(&otherKey().PublicKey)
	if n := a.LoginCount(signer, localsnowflake.JWTFingerprintMismatch); n != 1 {
		t.Errorf("%d logins counted as a mismatch, want 1", n)
	}
}

func TestServer_HasAnotherAccountsName(t *testing.T) {
	a := newAccount(t, localsnowflake.WithAccount("myorg-acct"))
	cfg := a.config(oldKey())
	cfg.Account = "myorg-acct.eu-central-1"
	a.mustPing(a.open(cfg))
}

func TestKeys_AreRotatedOverDatabaseSQL(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	mustExec(t, db, "alter user SVC set rsa_public_key_2 = '%s'", spki(t, newKey()))

	properties := describe(t, db)
	oldPrint, newPrint := localsnowflake.Fingerprint(&oldKey().PublicKey), localsnowflake.Fingerprint(&newKey().PublicKey)
	if properties["RSA_PUBLIC_KEY_FP"] != oldPrint || properties["RSA_PUBLIC_KEY_2_FP"] != newPrint {
		t.Fatalf("DESC USER: %v", properties)
	}
	if a.Fingerprints("svc") != [2]string{oldPrint, newPrint} {
		t.Fatalf("Fingerprints: %v", a.Fingerprints("svc"))
	}

	rotated := a.open(a.config(newKey()))
	a.mustPing(rotated)
	mustExec(t, rotated, "ALTER USER IF EXISTS svc UNSET RSA_PUBLIC_KEY;")
	if properties := describe(t, db); properties["RSA_PUBLIC_KEY_FP"] != "null" || properties["RSA_PUBLIC_KEY_2_FP"] != newPrint {
		t.Fatalf("DESC USER: %v", properties)
	}
	wantCode(t, a.open(a.config(oldKey())).Ping(), localsnowflake.JWTFingerprintMismatch)
	a.mustPing(db) // the session that the old key has opened lives on
}

func describe(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "DESC USER svc")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	properties := map[string]string{}
	for rows.Next() {
		var property, value, unset, description string
		if err := rows.Scan(&property, &value, &unset, &description); err != nil {
			t.Fatal(err)
		}
		properties[property] = value
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return properties
}

func TestPrivileges_AreNeededToAlterUsers(t *testing.T) {
	a := newAccount(t)
	a.CreateUser("other")
	db := a.db()
	mustExec(t, db, "ALTER USER other SET RSA_PUBLIC_KEY='%s'", spki(t, newKey()))

	a.SetCanAlterUsers("svc", false)
	for _, query := range []string{"ALTER USER SVC UNSET RSA_PUBLIC_KEY", "ALTER USER UNSET RSA_PUBLIC_KEY", "DESC USER other"} {
		_, err := db.Exec(query)
		if failure := wantCode(t, err, localsnowflake.AccessDenied); failure.SQLState != "42501" || failure.QueryID == "" {
			t.Errorf("%s: %+v", query, failure)
		}
	}
	describe(t, db) // themselves
	if a.Fingerprints("svc")[0] == "" {
		t.Error("the key was removed without the privilege")
	}
}

func TestSession_ExpiredTokenIsRenewed(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	a.mustPing(db)
	before := queryString(t, db, "SELECT current_session()")
	a.clock.advance(61 * time.Minute)
	if after := queryString(t, db, "SELECT current_session()"); after != before {
		t.Errorf("session %s became %s", before, after)
	}
	if counters := a.Counters(); counters.Renewals != 1 || counters.LoginsAccepted != 1 {
		t.Errorf("counters: %+v", counters)
	}
	if n := len(a.Statements()); n != 3 {
		t.Errorf("%d statements, want 3", n)
	}
}

func TestSession_ValidityCanBeSet(t *testing.T) {
	a := newAccount(t)
	a.SetSessionValidity(time.Minute, 2*time.Minute)
	db := a.db()
	a.mustPing(db)
	a.clock.advance(90 * time.Second)
	a.mustPing(db)
	a.clock.advance(3 * time.Minute)
	wantCode(t, db.Ping(), localsnowflake.MasterTokenExpired)
	if open := a.Sessions(); len(open) != 0 {
		t.Errorf("sessions: %+v", open)
	}
}

func TestSession_Ended(t *testing.T) {
	for _, code := range []localsnowflake.Code{
		localsnowflake.SessionGone, localsnowflake.SessionTokenInvalid, localsnowflake.MasterTokenExpired,
		localsnowflake.MasterTokenInvalid,
	} {
		t.Run(code.String(), func(t *testing.T) {
			a := newAccount(t)
			db := a.db()
			a.mustPing(db)
			a.EndSessions(code)
			if open := a.Sessions(); len(open) != 0 {
				t.Errorf("sessions: %+v", open)
			}
			for range 2 { // the driver leaves a dead connection in the pool
				wantCode(t, db.Ping(), code)
			}
		})
	}
	t.Run("renewable", func(t *testing.T) {
		a := newAccount(t)
		db := a.db()
		a.mustPing(db)
		a.EndSessions(localsnowflake.SessionExpired)
		if len(a.Sessions()) != 1 {
			t.Error("a session that can be renewed is not open")
		}
		a.mustPing(db)
		if n := a.Counters().Renewals; n != 1 {
			t.Errorf("%d renewals, want 1", n)
		}
	})
	t.Run("one of two", func(t *testing.T) {
		a := newAccount(t)
		first, second := a.db(), a.db()
		a.mustPing(first)
		a.mustPing(second)
		a.EndSessions(localsnowflake.SessionGone, a.Sessions()[0].ID)
		wantCode(t, first.Ping(), localsnowflake.SessionGone)
		a.mustPing(second)
	})
}

func TestDriver_Transactions(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		queryString(t, tx, "SELECT 1")
		if !a.Sessions()[0].InTransaction {
			t.Error("no transaction")
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
		if a.Sessions()[0].InTransaction {
			t.Error("the transaction goes on")
		}
	}
}

func TestStatement_CanceledOneIsNotExecuted(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	a.mustPing(db)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := db.ExecContext(ctx, "SELECT SYSTEM$WAIT(30)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("canceled after %v", took)
	}
	last := a.Statements()[1]
	if last.Executions != 0 || last.Code != localsnowflake.StatementCanceled {
		t.Errorf("statement: %+v", last)
	}
	a.mustPing(db)
}

func TestLatency_OfAQueryIsPartOfTheStatement(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	a.mustPing(db)
	a.SetQueryLatency(50 * time.Millisecond)
	began := time.Now()
	a.mustPing(db)
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("took %v", took)
	}
	a.SetQueryLatency(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestLatency_OfALogin(t *testing.T) {
	a := newAccount(t)
	a.SetLoginLatency(50 * time.Millisecond)
	began := time.Now()
	a.mustPing(a.db())
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestDriver_PollsALongStatement(t *testing.T) {
	a := newAccount(t)
	a.SetInProgressAfter(10 * time.Millisecond)
	db := a.db()
	if got := queryString(t, db, "SELECT SYSTEM$WAIT(100, 'MILLISECONDS')"); got != "waited 100 milliseconds" {
		t.Errorf("got %q", got)
	}
	if got := a.Statements(); len(got) != 1 || got[0].Executions != 1 || got[0].Requests != 1 {
		t.Errorf("statements: %+v", got)
	}
}

func TestSession_ExpiresWhileAStatementIsPolled(t *testing.T) {
	a := newAccount(t)
	a.SetInProgressAfter(10 * time.Millisecond)
	db := a.db()
	a.mustPing(db)
	time.AfterFunc(50*time.Millisecond, func() { a.EndSessions(localsnowflake.SessionExpired) })
	queryString(t, db, "SELECT SYSTEM$WAIT(150, 'MILLISECONDS')")
	if n := a.Counters().Renewals; n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	time.AfterFunc(50*time.Millisecond, func() { a.EndSessions(localsnowflake.MasterTokenExpired) })
	_, err := db.ExecContext(t.Context(), "SELECT SYSTEM$WAIT(150, 'MILLISECONDS')")
	wantCode(t, err, localsnowflake.MasterTokenExpired)
}

func TestDriver_FetchesAnAsynchronousResult(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	rows, err := db.QueryContext(gosnowflake.WithAsyncMode(t.Context()), "SELECT SYSTEM$WAIT(50, 'MILLISECONDS')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got string
	if !rows.Next() || rows.Scan(&got) != nil || got != "waited 50 milliseconds" {
		t.Errorf("got %q, %v", got, rows.Err())
	}
}

func TestDriver_ReadsTheStatusOfAQuery(t *testing.T) {
	a := newAccount(t)
	conn, err := a.db().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	queryString(t, conn, "SELECT 1")
	queryID := a.Statements()[0].QueryID
	err = conn.Raw(func(c any) error {
		status, err := c.(gosnowflake.SnowflakeConnection).GetQueryStatus(t.Context(), queryID)
		if err == nil && status.SQLText != "SELECT 1" {
			t.Errorf("status: %+v", status)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var one string
	ctx := gosnowflake.WithFetchResultByID(t.Context(), queryID)
	if err := conn.QueryRowContext(ctx, "").Scan(&one); err != nil || one != "1" {
		t.Errorf("result of %s: %q, %v", queryID, one, err)
	}
}

func TestDriver_ReadsRowsOfEachType(t *testing.T) {
	rows, err := newAccount(t).db().QueryContext(t.Context(),
		"SELECT * FROM VALUES (1, 'one', 1.25, TRUE, NULL), (NULL, ?, -10, FALSE, NULL)", "two")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, c := range types {
		digits, decimals, _ := c.DecimalSize()
		nullable, _ := c.Nullable()
		described = append(described, fmt.Sprintf("%s %s %d %d %t", c.Name(), c.DatabaseTypeName(), digits, decimals, nullable))
	}
	wantTypes := []string{"COLUMN1 FIXED 1 0 true", "COLUMN2 TEXT 0 0 true", "COLUMN3 FIXED 4 2 false", "COLUMN4 BOOLEAN 0 0 false", "COLUMN5 TEXT 0 0 true"}
	if !slices.Equal(described, wantTypes) {
		t.Errorf("columns %q", described)
	}
	var got []string
	for rows.Next() {
		var r [4]any
		var truth bool
		if err := rows.Scan(&r[0], &r[1], &r[2], &truth, &r[3]); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(append(r[:], truth)...))
	}
	want := []string{fmt.Sprint("1", "one", "1.25", nil, true), fmt.Sprint(nil, "two", "-10.00", nil, false)}
	if rows.Err() != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, rows.Err(), want)
	}
}

func TestDriver_BindsValues(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	if got := queryString(t, db, "SELECT ?", "text"); got != "text" {
		t.Errorf("got %q", got)
	}
	stmt, err := db.PrepareContext(t.Context(), "SELECT ?, ?")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	var n int64
	var unset sql.NullString
	if err := stmt.QueryRow(7, sql.NullString{}).Scan(&n, &unset); err != nil || n != 7 || unset.Valid {
		t.Errorf("got %d, %v, %v", n, unset, err)
	}
	var truth bool
	if err := stmt.QueryRow(true, sql.NullString{}).Scan(&truth, &unset); err != nil || !truth {
		t.Errorf("got %v, %v", truth, err)
	}
}

func TestStatement_DescribeOnlyDoesNotExecute(t *testing.T) {
	a := newAccount(t)
	db := a.db()
	rows, err := db.QueryContext(gosnowflake.WithDescribeOnly(t.Context()), "SELECT 1 AS one, 'x'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if columns, err := rows.Columns(); err != nil || strings.Join(columns, "|") != "ONE|'x'" {
		t.Errorf("columns %v, %v", columns, err)
	}
	if rows.Next() || len(a.Statements()) != 0 {
		t.Error("the statement was executed")
	}
}

// The driver waits a second or more before it retries.
func TestRetry_OfALostAnswerExecutesOnce(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	a := newAccount(t)
	db := a.db()
	a.mustPing(db)
	var lost atomic.Bool
	a.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointQuery && lost.CompareAndSwap(false, true) {
			return &localsnowflake.Fault{Drop: true, After: true}
		}
		return nil
	})
	mustExec(t, db, "ALTER USER svc SET RSA_PUBLIC_KEY_2='%s'", spki(t, newKey()))
	last := a.Statements()[1]
	if last.Requests != 2 || last.Executions != 1 {
		t.Errorf("statement: %+v", last)
	}
}

func TestDriver_RetriesWhatIsUnavailable(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	a := newAccount(t)
	var failed atomic.Bool
	a.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && failed.CompareAndSwap(false, true) {
			return &localsnowflake.Fault{Status: 503}
		}
		return nil
	})
	a.mustPing(a.db())
	if counters := a.Counters(); counters.LoginsAccepted != 1 || counters.LoginsRefused != 0 {
		t.Errorf("counters: %+v", counters)
	}
}

func TestSession_ManyAtOnce(t *testing.T) {
	a := newAccount(t, localsnowflake.WithHistory(64))
	db := a.open(a.config(oldKey()))
	db.SetMaxOpenConns(16)
	done := make(chan error)
	for range 16 {
		go func() {
			for range 20 {
				if err := db.PingContext(t.Context()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for n := range 16 {
		if n == 8 {
			a.EndSessions(localsnowflake.SessionExpired)
			a.Sessions()
			a.Statements()
			a.Logins()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := a.Counters().StatementsExecuted; n != 16*20 {
		t.Errorf("%d statements executed", n)
	}
	if n := len(a.Statements()); n != 64 {
		t.Errorf("%d statements remembered, want 64", n)
	}
}
