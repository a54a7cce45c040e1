package localsnowflake_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

func always(fault *localsnowflake.Fault) func(localsnowflake.Request) *localsnowflake.Fault {
	return func(localsnowflake.Request) *localsnowflake.Fault { return fault }
}

func TestFault_NetworkPolicy(t *testing.T) {
	a := newAccount(t)
	a.Intercept(always(localsnowflake.BlockedByNetworkPolicy()))
	out := a.execute("SELECT 1")
	out.want(t, http.StatusForbidden, localsnowflake.NetworkPolicyDenied)
	failure := wantCode(t, a.open(a.config(oldKey())).PingContext(t.Context()), localsnowflake.NetworkPolicyDenied)
	if failure.SQLState != "08004" || !strings.Contains(failure.Message, "is not allowed to access Snowflake") || failure.Message != out.Message {
		t.Errorf("got %+v and %+v", failure, out)
	}
}

// The driver's own words for a host that no account has.
func TestFault_UnknownAccount(t *testing.T) {
	for status, want := range map[int]int{
		http.StatusForbidden: gosnowflake.ErrCodeFailedToConnect, http.StatusNotFound: gosnowflake.ErrFailedToAuth, 513: 0,
	} {
		a := newAccount(t)
		a.Intercept(always(localsnowflake.UnknownAccount(status)))
		got := do(t, http.MethodPost, a.url+localsnowflake.EndpointStatements, a.headers(oldKey()), `{"statement":"SELECT 1"}`)
		if got.status != status || !strings.Contains(got.body, "<html>") {
			t.Errorf("got %+v", got)
		}
		if want == 0 { // the driver tries again for minutes
			continue
		}
		var failure *gosnowflake.SnowflakeError
		if err := a.open(a.config(oldKey())).PingContext(t.Context()); !errors.As(err, &failure) || failure.Number != want {
			t.Errorf("%d: the driver says %v", status, err)
		}
	}
}

func TestSQLAPI_DisabledOrBusy(t *testing.T) {
	a := newAccount(t)
	a.Intercept(always(localsnowflake.SQLAPIDisabled()))
	if out := a.execute("SELECT 1"); out.status != http.StatusForbidden || !strings.Contains(out.Message, "not allowed to access this endpoint") {
		t.Errorf("got %+v", out)
	}
	a.Intercept(always(localsnowflake.TooManyRequests()))
	a.execute("SELECT 1").want(t, http.StatusTooManyRequests, localsnowflake.RequestRateExceeded)
	a.Intercept(always(&localsnowflake.Fault{Status: http.StatusServiceUnavailable}))
	if out := a.execute("SELECT 1"); out.status != http.StatusServiceUnavailable {
		t.Errorf("got %+v", out)
	}
	if n := a.Executed("SELECT"); n != 0 {
		t.Errorf("%d executed", n)
	}
}

// Whatever the client makes of it, the key is set: once, if it says that it tries again.
func TestFault_AnswerIsLostAfterTheStatement(t *testing.T) {
	a := newAccount(t)
	a.Intercept(always(localsnowflake.AnswerLost()))
	set := `{"statement":"ALTER USER svc SET RSA_PUBLIC_KEY_2='` + spki(t, newKey()) + `'"}`
	path := localsnowflake.EndpointStatements + "?requestId=r1"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+path, strings.NewReader(set))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = a.headers(oldKey())
	if response, err := http.DefaultClient.Do(request); !errors.Is(err, io.EOF) {
		if err == nil {
			response.Body.Close()
		}
		t.Errorf("got %v, want a connection that breaks", err)
	}
	if a.Fingerprints("svc")[1] != fingerprintOf(newKey()) {
		t.Error("the statement has not taken effect")
	}
	a.Intercept(nil)
	if got := do(t, http.MethodPost, a.url+path+"&retry=true", a.headers(oldKey()), set); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
	if n := a.Executed("ALTER USER"); n != 1 {
		t.Errorf("%d executed, want 1", n)
	}
}

func TestStatement_ClientsAreToldToPoll(t *testing.T) {
	a := newAccount(t)
	a.Intercept(always(&localsnowflake.Fault{Poll: true}))
	a.SetQueryLatency(20 * time.Millisecond)
	running := a.execute("ALTER USER svc SET RSA_PUBLIC_KEY_2='" + spki(t, newKey()) + "'")
	running.want(t, http.StatusAccepted, localsnowflake.StatementInProgressAsync)
	var out statement
	waitFor(t, func() bool {
		out = a.call(http.MethodGet, running.StatementStatusURL, a.headers(oldKey()), nil)
		return out.status != http.StatusAccepted
	})
	out.want(t, http.StatusOK, localsnowflake.StatementSucceeded)
	if out.StatementHandle != running.StatementHandle || a.Fingerprints("svc")[1] != fingerprintOf(newKey()) {
		t.Errorf("got %+v", out)
	}
	failing := a.execute("ALTER USER nobody UNSET RSA_PUBLIC_KEY")
	failing.want(t, http.StatusAccepted, localsnowflake.StatementInProgressAsync)
	waitFor(t, func() bool {
		out = a.call(http.MethodGet, failing.StatementStatusURL, a.headers(oldKey()), nil)
		return out.status != http.StatusAccepted
	})
	out.want(t, http.StatusUnprocessableEntity, localsnowflake.ObjectNotFound)
	mustExec(t, a.db(), "ALTER USER svc UNSET RSA_PUBLIC_KEY_2")
}

func TestFault_ClocksTwoMinutesApart(t *testing.T) {
	now := time.Now
	for name, test := range map[string]struct {
		offset   time.Duration
		lifetime time.Duration
		want     localsnowflake.Code
	}{
		"slow client":          {2 * time.Minute, time.Minute, localsnowflake.JWTInvalidExpirationTime},
		"slow client, an hour": {2 * time.Minute, time.Hour, localsnowflake.StatementSucceeded},
		"fast client":          {-2 * time.Minute, time.Minute, localsnowflake.JWTInvalidIssueTime},
		"fast client, an hour": {-2 * time.Minute, time.Hour, localsnowflake.JWTInvalidIssueTime},
		"a little fast":        {-20 * time.Second, time.Minute, localsnowflake.StatementSucceeded},
		"slow client, in time": {40 * time.Second, time.Minute, localsnowflake.StatementSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t, localsnowflake.WithClock(now))
			a.SetClockOffset(test.offset)
			header := a.headers(oldKey())
			header.Set("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, oldKey(), claims(oldKey(), jwt.MapClaims{
				"exp": now().Add(test.lifetime).Unix(),
			})))
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+localsnowflake.EndpointStatements, strings.NewReader(`{"statement":"SELECT 1"}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || !strings.Contains(string(body), `"`+test.want.String()+`"`) {
				t.Errorf("got %s, %v, want code %v", body, err, test.want)
			}
			date, err := http.ParseTime(response.Header.Get("Date"))
			if off := time.Until(date) - test.offset; err != nil || off.Abs() > 15*time.Second {
				t.Errorf("Date is %v, %v: off by %v", date, err, off)
			}
		})
	}
}
