package snowkey_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// A firstLogin records where a driver logs in and as whom, refuses the login, and calls refused.
type firstLogin struct {
	host, subject string
	refused       func()
}

func (l *firstLogin) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/session/v1/login-request") && l.host == "" {
		var login struct{ Data struct{ Token string } }
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &login)
		claims := jwt.MapClaims{}
		_, _, _ = jwt.NewParser().ParseUnverified(login.Data.Token, claims)
		l.subject, _ = claims["sub"].(string)
		l.host = r.URL.Host
		l.refused()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"success":false,"code":"390144","message":"JWT token is invalid."}`))}, nil
}

// helpersLogin returns where the helper logs in and as whom, such as "host:port ACCOUNT.USER".
func helpersLogin(t *testing.T, path string, cfg gosnowflake.Config) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	login := &firstLogin{refused: cancel}
	cfg.Transporter = login
	db, err := snowkey.Open(ctx, path, cfg)
	if err == nil {
		db.Close()
	}
	return login.host + " " + login.subject, err
}

func driversLogin(t *testing.T, cfg gosnowflake.Config) string {
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	login := &firstLogin{refused: func() {}}
	cfg.Transporter, cfg.Authenticator, cfg.PrivateKey = login, gosnowflake.AuthTypeJwt, testkey.Key(0).RSA()
	_, _ = gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, cfg).Connect(ctx)
	return login.host + " " + login.subject
}

// accountForms are the rows of the table of the package identity, cut into cells: text, host, name, source.
func accountForms(t *testing.T) [][]string {
	t.Helper()
	table, err := os.ReadFile("../../internal/identity/testdata/accounts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if cells[0], err = strconv.Unquote(cells[0]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, cells)
	}
	return all
}

func TestOpen_ReadsEveryFormOfAnAccount(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	for _, cells := range accountForms(t) {
		text, host, name, source := cells[0], cells[1], cells[2], cells[3]
		want := fmt.Sprintf("%s:443 %s.ETL", host, name)
		cfg := gosnowflake.Config{Account: text, User: "etl"}
		if got, err := helpersLogin(t, s.path, cfg); got != want {
			t.Errorf("%q (%s): %s, want %s; error %v", text, source, got, want, err)
		}
		if got := driversLogin(t, cfg); source == "drivers" && !strings.EqualFold(got, want) {
			t.Errorf("%q: gosnowflake logs in at %s, want %s", text, got, want)
		}
	}
}

func TestOpen_ReadsHostUserAndRegion(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for want, cfg := range map[string]gosnowflake.Config{
		"snowflake.corp.example:8443 MYORG-ACCT.ETL":                     {Account: "myorg-acct", Host: "https://snowflake.corp.example:8443/", User: "etl"},
		"[::1]:8080 MYORG-ACCT.ETL":                                      {Account: "myorg-acct\r", Host: "::1", Port: 8080, User: "etl"},
		"myorg-acct.snowflakecomputing.com:443 MYORG-ACCT.ETL":           {Host: "myorg-acct.snowflakecomputing.com", User: "etl"},
		"my-acme-abc123.global.snowflakecomputing.com:443 MY-ACME.ETL":   {Account: "my-acme", Host: "my-acme-abc123.global.snowflakecomputing.com", User: "etl"},
		"xy12345.eu-west-2.aws.snowflakecomputing.com:443 XY12345.ETL":   {Account: "xy12345", Region: "eu-west-2.aws", User: "etl"},
		"myorg-my-acct.snowflakecomputing.com:443 MYORG-MY_ACCT.ETL":     {Host: "myorg-my_acct.snowflakecomputing.com", User: "etl"},
		"xy12345.eu-west-3.aws.snowflakecomputing.com:443 XY12345.ETL":   {Account: `"xy12345"`, Region: "eu-west-3.aws", User: "etl"},
		"xy12345.snowflakecomputing.com:443 XY12345.ETL":                 {Account: "xy12345", Region: "us-west-2", User: "etl"},
		"myorg-acct.snowflakecomputing.com:443 MYORG-ACCT.ETL@CORP.TEST": {Account: "myorg-acct", User: " 'etl@corp.test'\r\n"},
	} {
		if got, err := helpersLogin(t, s.path, cfg); got != want {
			t.Errorf("%s, want %s; error %v", got, want, err)
		}
	}
}

func TestDriver_ReadsConnectionsAsTheDriverDoes(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for account, want := range map[string]string{ // in a data source name
		"my-acme-abc123.global":      "my-acme-abc123.global.snowflakecomputing.com:443 MY-ACME.ETL",
		"xy12345.us-east-1":          "xy12345.us-east-1.snowflakecomputing.com:443 XY12345.ETL",
		"xy12345.cn-northwest-1.aws": "xy12345.cn-northwest-1.aws.snowflakecomputing.cn:443 XY12345.ETL",
		"myorg-my_acct":              "myorg-my-acct.snowflakecomputing.com:443 MYORG-MY_ACCT.ETL",
	} {
		cfg, err := gosnowflake.ParseDSN("etl:x@" + account + "/db") // as the driver "snowkey" does
		if err != nil {
			t.Fatal(err)
		}
		cfg.Password = ""
		if got, err := helpersLogin(t, s.path, *cfg); got != want {
			t.Errorf("%s: %s, want %s; error %v", account, got, want, err)
		}
	}
}

func TestOpen_SendsNoTokenToSnowflakeUnencrypted(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	for host, refused := range map[string]bool{"": true, "myorg-acct.SnowflakeComputing.com": true, "acct.snowflakecomputing.cn": true, "localhost": false, "127.0.0.1": false} {
		where, err := helpersLogin(t, s.path, gosnowflake.Config{Account: "myorg-acct", User: "svc", Host: host, Protocol: "http"})
		if refused != (err != nil && strings.Contains(err.Error(), "Config.Protocol: http is for a local Snowflake")) || refused && where != " " {
			t.Errorf("%q: login at %q, error %v", host, where, err)
		}
	}
}

func TestOpen_RefusesAnAccountThatIsNone(t *testing.T) {
	for want, cfg := range map[string]gosnowflake.Config{
		"Config.Account: write the account's identifier": {Account: "my org", User: "etl"},
		"Config.Account: it has an @":                    {Account: "etl:hunter2@myorg-acct", User: "etl"},
		"Config.Host: it is not the name of a host":      {Account: "myorg-acct", Host: "two hosts", User: "etl"},
		"Config.Port is 443":                             {Account: "myorg-acct", Host: "host.example:8443", Port: 443, User: "etl"},
		"Config.User: write the user's LOGIN_NAME":       {Account: "myorg-acct", User: "etl\nother"},
	} {
		if _, err := snowkey.NewConnector(t.Context(), "/nowhere", cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
