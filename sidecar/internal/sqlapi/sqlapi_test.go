package sqlapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
)

func snowflake(t *testing.T, account string, opts ...localsnowflake.Option) (*localsnowflake.Server, *sqlapi.Client) {
	t.Helper()
	server := localsnowflake.New(append(opts, localsnowflake.WithAccount("MYACCOUNT"))...)
	server.CreateUser("ETL")
	endpoint := httptest.NewServer(server)
	t.Cleanup(endpoint.Close)
	u, err := url.Parse(endpoint.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return server, &sqlapi.Client{Account: account, User: "etl", Protocol: "http", Host: u.Hostname(), Port: port, UserAgent: "test"}
}

func TestAnAssignedKeyIsAccepted(t *testing.T) {
	for _, account := range []string{"myaccount", "myaccount.eu-central-1", "MYACCOUNT-x1y2.global"} {
		server, client := snowflake(t, account)
		for slot := 1; slot <= 2; slot++ {
			server.SetPublicKey("ETL", slot, &testkey.Key(slot).RSA().PublicKey)
			if err := client.Accepts(t.Context(), testkey.Key(slot)); err != nil {
				t.Errorf("%s, slot %d: %v", account, slot, err)
			}
		}
	}
}

func TestARefusalNamesTheKeyAndWhatToDo(t *testing.T) {
	for name, opts := range map[string][]localsnowflake.Option{
		"394304": nil,
		"390144": {localsnowflake.WithGenericLoginErrors()},
	} {
		server, client := snowflake(t, "myaccount", opts...)
		server.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
		err := client.Accepts(t.Context(), testkey.Key(1))
		if failure.Class(err) != keyfile.ClassSnowflake {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
			continue
		}
		for _, want := range []string{name, testkey.Key(1).Fingerprint(), "ALTER USER etl SET RSA_PUBLIC_KEY_2", "DESC USER"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
	}
}

// dated answers with the Date of another clock, or with none.
type dated struct{ now func() time.Time }

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Header.Del("Date")
	if d.now != nil {
		resp.Header.Set("Date", d.now().UTC().Format(http.TimeFormat))
	}
	return resp, nil
}

func TestAKeyIsAcceptedWhateverThisMachinesClock(t *testing.T) {
	for _, skew := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		clock := func() time.Time { return time.Now().Add(skew) }
		server, client := snowflake(t, "myaccount", localsnowflake.WithClock(clock))
		server.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
		client.HTTP = &http.Client{Transport: dated{clock}}
		if err := client.Accepts(t.Context(), testkey.Key(0)); err != nil {
			t.Errorf("%v: %v", skew, err)
		}
		if err := client.Accepts(t.Context(), testkey.Key(1)); failure.Class(err) != keyfile.ClassSnowflake {
			t.Errorf("%v: a key that is not assigned: error %v", skew, err)
		}
	}
}

func TestAWrongClockThatCannotBeSeenIsARefusal(t *testing.T) {
	server, client := snowflake(t, "myaccount", localsnowflake.WithClock(func() time.Time { return time.Now().Add(5 * time.Minute) }))
	server.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
	client.HTTP = &http.Client{Transport: dated{}}
	if err := client.Accepts(t.Context(), testkey.Key(0)); failure.Class(err) != keyfile.ClassSnowflake || !strings.Contains(err.Error(), "clock") {
		t.Errorf("error %v", err)
	}
}

func TestNoAnswerIsNoRefusal(t *testing.T) {
	server, client := snowflake(t, "myaccount")
	for name, fault := range map[string]localsnowflake.Fault{
		"503":     {Status: 503},
		"429":     {Status: 429},
		"proxy":   {Status: 200, Body: "<html>log in here</html>"},
		"dropped": {Drop: true},
	} {
		server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return &fault })
		if err := client.Accepts(t.Context(), testkey.Key(0)); failure.Class(err) != keyfile.ClassNetwork {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
	}
}
