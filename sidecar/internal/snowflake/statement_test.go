package snowflake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// assigned is an account whose user has the first test key in slot 1.
func assigned(t *testing.T, opts ...localsnowflake.Option) (*localsnowflake.Server, *snowflake.Client, *keyfile.Key) {
	t.Helper()
	server, client := local(t, "myaccount", opts...)
	server.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
	return server, client, testkey.Key(0)
}

func spki(t *testing.T, key *keyfile.Key) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.RSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func TestQuery_Rows(t *testing.T) {
	_, client, key := assigned(t)
	result, err := client.Query(t.Context(), key, "SELECT CURRENT_USER()")
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Columns) != 1 || len(result.Rows) != 1 || !slices.Equal(result.Rows[0], []string{"ETL"}) {
		t.Errorf("result %+v", result)
	}
	if time.Since(result.Date).Abs() > 5*time.Second {
		t.Errorf("Snowflake's clock is %v", result.Date)
	}
}

func TestSlots_AreThoseOfDescUser(t *testing.T) {
	server, client, key := assigned(t)
	slots, err := client.Slots(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if slots[0].Fingerprint != key.Fingerprint() || time.Since(slots[0].SetAt).Abs() > time.Minute || slots[1] != (snowflake.Slot{Number: 2}) {
		t.Errorf("slots %+v", slots)
	}
	next := testkey.Key(1)
	for _, statement := range []string{
		snowflake.SetKey("ETL", slots[1], spki(t, next)),
		snowflake.UnsetKey("ETL", slots[0]),
	} {
		if _, err := client.Query(t.Context(), key, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if got := server.Fingerprints("ETL"); got != [2]string{"", next.Fingerprint()} {
		t.Errorf("Snowflake has %v", got)
	}
}

func TestQuery_StatementErrorIsNoRefusal(t *testing.T) {
	server, client, key := assigned(t)
	server.SetCanAlterUsers("ETL", false)
	_, err := client.Query(t.Context(), key, "ALTER USER etl UNSET RSA_PUBLIC_KEY_2")
	refused, ok := errors.AsType[*snowflake.StatementError](err)
	if !ok || refused.Code != "003001" || refused.SQLState != "42501" {
		t.Errorf("error %v", err)
	}
}

func TestQuery_IsRetriedWithoutAnAnswer(t *testing.T) {
	testenv.Slow(t)
	server, client, key := assigned(t)
	var calls atomic.Int32
	server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
		switch calls.Add(1) {
		case 1:
			return &localsnowflake.Fault{Drop: true}
		case 2:
			return &localsnowflake.Fault{Status: 503}
		}
		return nil
	})
	if _, err := client.Query(t.Context(), key, "SELECT CURRENT_USER()"); err != nil || calls.Load() != 3 {
		t.Errorf("%d calls, error %v", calls.Load(), err)
	}
}

func TestQuery_PollsALongStatement(t *testing.T) {
	testenv.Slow(t)
	_, client, key := assigned(t)
	client.HTTP = &http.Client{Transport: through(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		if r.Method == http.MethodPost {
			r.URL.RawQuery += "&async=true" // it answers 202 at once, as it does for a statement that takes 45 seconds
		}
		return http.DefaultTransport.RoundTrip(r)
	})}
	result, err := client.Query(t.Context(), key, "SELECT SYSTEM$WAIT(1)")
	if err != nil || len(result.Rows) != 1 {
		t.Errorf("result %+v, error %v", result, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Query(ctx, key, "SELECT SYSTEM$WAIT(9)"); failure.Class(err) != keyfile.ClassNetwork {
		t.Errorf("error %v", err)
	}
}

func TestChange_IsSentOnce(t *testing.T) {
	testenv.Slow(t)
	for name, tc := range map[string]struct {
		fault *localsnowflake.Fault
		sent  int32
	}{
		"no answer":    {&localsnowflake.Fault{Drop: true}, 1},
		"the way back": {localsnowflake.AnswerLost(), 1},
		"503":          {&localsnowflake.Fault{Status: http.StatusServiceUnavailable}, 1},
		"too busy":     {&localsnowflake.Fault{Status: http.StatusTooManyRequests}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			server, client, key := assigned(t)
			var sent atomic.Int32
			server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
				sent.Add(1)
				return tc.fault
			})
			err := client.Change(t.Context(), key, snowflake.SetKey("ETL", snowflake.Slot{Number: 2}, spki(t, testkey.Key(1))))
			if failure.Class(err) != keyfile.ClassNetwork || sent.Load() != tc.sent {
				t.Errorf("sent %d times, error %v", sent.Load(), err)
			}
		})
	}
}

// A poll that was not sent says nothing about the statement.
func TestChange_FailedPollLeavesTheEndOpen(t *testing.T) {
	for name, err := range map[string]error{
		"no such host":              &net.DNSError{IsNotFound: true},
		"a proxy wants a password":  &network.ProxyAnswer{Status: http.StatusProxyAuthRequired},
		"an unknown authority":      &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"no TLS":                    tls.RecordHeaderError{Conn: new(net.TCPConn)},
		"a connection that was cut": io.EOF,
	} {
		accepted := through(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return nil, err
			}
			return fixed{http.StatusAccepted, `{"code":"333334","statementStatusUrl":"/api/v2/statements/1"}`}.RoundTrip(r)
		})
		client := &snowflake.Client{Account: "a", Login: "u", User: "U", HTTP: &http.Client{Transport: accepted}, RetryInterval: 1}
		if err := client.Change(t.Context(), testkey.Key(0), "ALTER"); failure.Class(err) != keyfile.ClassNetwork {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
	}
	gateway := inPlace(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"code":"333334","statementStatusUrl":"/api/v2/statements/1"}`)
	})))
	if err := gateway.Change(t.Context(), testkey.Key(0), "ALTER"); failure.Class(err) != keyfile.ClassNetwork {
		t.Errorf("422 without a code: error %v of class %s", err, failure.Class(err))
	}
}

// Only what comes before the request is sure to have kept it back.
func TestChange_TellsWhetherItWasSent(t *testing.T) {
	for name, tc := range map[string]struct {
		through http.RoundTripper
		sent    bool
	}{
		"no such host":                {failing{&net.DNSError{IsNotFound: true}}, false},
		"a proxy forbids the host":    {failing{&network.ProxyAnswer{Status: http.StatusForbidden}}, false},
		"a first record that is none": {failing{tls.RecordHeaderError{Conn: new(net.TCPConn)}}, false},
		"a later record that is none": {failing{tls.RecordHeaderError{Msg: "received record with version 5454"}}, true},
		"an answer that is none":      {failing{errors.New("malformed HTTP response")}, true},
		"a page":                      {fixed{200, "<html>"}, true},
		"a gateway that fails":        {fixed{502, "<html>"}, true},
		"a status that is not known":  {fixed{520, "<html>"}, true},
		"no account at this host":     {fixed{513, "<html>"}, false},
		"an API that refuses":         {fixed{400, `{"code":"391903"}`}, false},
	} {
		client := &snowflake.Client{Account: "a", Login: "u", User: "U", HTTP: &http.Client{Transport: tc.through}, RetryInterval: 1}
		if err := client.Change(t.Context(), testkey.Key(0), "ALTER"); err == nil || (failure.Class(err) == keyfile.ClassNetwork) != tc.sent {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
	}
}
