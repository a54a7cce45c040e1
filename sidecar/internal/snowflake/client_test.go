package snowflake_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

func local(t *testing.T, account snowflake.Account, opts ...localsnowflake.Option) (*localsnowflake.Server, *snowflake.Client) {
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
	return server, &snowflake.Client{Account: account, Login: "etl", Protocol: "http", Host: u.Hostname(), Port: port, UserAgent: "test"}
}

func TestAccepts_AssignedKey(t *testing.T) {
	for _, account := range []snowflake.Account{"myaccount", "myaccount.eu-central-1", "MYACCOUNT-x1y2.global"} {
		server, client := local(t, account)
		for slot := 1; slot <= 2; slot++ {
			server.SetPublicKey("ETL", slot, &testkey.Key(slot).RSA().PublicKey)
			if err := client.Accepts(t.Context(), testkey.Key(slot)); err != nil {
				t.Errorf("%s, slot %d: %v", account, slot, err)
			}
		}
	}
}

func TestAccepts_RefusalNamesKeyAndAdvice(t *testing.T) {
	for name, opts := range map[string][]localsnowflake.Option{
		"394304": nil,
		"390144": {localsnowflake.WithGenericLoginErrors()},
	} {
		server, client := local(t, "myaccount", opts...)
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

// A through is what requests go through in place of a network.
type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// otherClock gives every answer the Date of another clock, or none.
func otherClock(now func() time.Time) through {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		resp.Header.Del("Date")
		if now != nil {
			resp.Header.Set("Date", now().UTC().Format(http.TimeFormat))
		}
		return resp, nil
	}
}

func TestAccepts_NoAnswerIsNoRefusal(t *testing.T) {
	server, client := local(t, "myaccount")
	for name, fault := range map[string]localsnowflake.Fault{
		"503":     {Status: 503},
		"429":     {Status: 429},
		"dropped": {Drop: true},
	} {
		server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return &fault })
		if err := client.Accepts(t.Context(), testkey.Key(0)); failure.Class(err) != keyfile.ClassNetwork {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
	}
}
