package snowflake_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/identity"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// noted keeps the last request, and answers as Snowflake does to a refused token.
type noted struct{ last *http.Request }

func (n *noted) RoundTrip(r *http.Request) (*http.Response, error) {
	n.last = r
	return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"code":"390144","message":"JWT token is invalid."}`))}, nil
}

func (n *noted) subject(t *testing.T) string {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(n.last.Header.Get("Authorization"), "Bearer "), claims); err != nil {
		t.Fatal(err)
	}
	return claims["sub"].(string)
}

// The Go helper is tested against the same table.
func TestClient_LogsInForEveryFormOfAnAccount(t *testing.T) {
	table, err := os.ReadFile("../../../shared/identity/testdata/accounts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		rows++
		cells := strings.Split(line, "\t")
		text, err := strconv.Unquote(cells[0])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		account, err := identity.ParseAccount(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		sent := new(noted)
		client := &snowflake.Client{Account: account, Login: "Etl@Corp", UserAgent: "test", HTTP: &http.Client{Transport: sent}}
		_ = client.Accepts(t.Context(), testkey.Key(0))
		if got, want := sent.last.URL.Host, cells[1]; got != want {
			t.Errorf("%q: host %s, want %s", text, got, want)
		}
		if got, want := sent.subject(t), cells[2]+".ETL@CORP"; got != want {
			t.Errorf("%q: the token is for %s, want %s", text, got, want)
		}
	}
	if rows < 50 {
		t.Errorf("%d rows", rows)
	}
}

func TestClient_AddressOfIPv6(t *testing.T) {
	client := &snowflake.Client{Host: "::1", Protocol: "http"}
	if got := client.Address(); got != "http://[::1]" {
		t.Error(got)
	}
	if client.Port = 8080; client.Address() != "http://[::1]:8080" {
		t.Error(client.Address())
	}
}

func TestParseName_FoldsAsSnowflakeDoes(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "etl": "ETL", "Etl_2$": "ETL_2$", `"etl"`: "etl", `"ETL"`: "ETL", `"a""b"`: `a"b`,
		"\tetl\r\n": "ETL", "'etl'": "ETL", `'"etl"'`: "etl", "my-role": "my-role", "etl@corp.example": "etl@corp.example",
		"2etl": "2etl", "Müller": "Müller", `a"b`: `a"b`,
	} {
		if got, err := snowflake.ParseName(text); err != nil || got != want {
			t.Errorf("%q: %q, error %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"a\nb", "a\x1b[2J", strings.Repeat("a", 256), `""`} {
		if got, err := snowflake.ParseName(text); err == nil {
			t.Errorf("%.20q: %.20q", text, got)
		}
	}
}

func TestIdentifier_QuotesWhatMustBeQuotedAndNothingElse(t *testing.T) {
	for name, want := range map[string]string{
		"ETL": "ETL", "ETL_2$": "ETL_2$", "_X": "_X", "PUBLIC": "PUBLIC",
		"etl": `"etl"`, "Etl": `"Etl"`, "2ETL": `"2ETL"`, "$X": `"$X"`, "MY-ROLE": `"MY-ROLE"`, "MÜLLER": `"MÜLLER"`, "": `""`,
		"SELECT": `"SELECT"`, "USER_": "USER_", "ORDER": `"ORDER"`,
		"svc@example.com": `"svc@example.com"`, `a" SET X='`: `"a"" SET X='"`, "a; DROP USER b": `"a; DROP USER b"`, `"ETL"`: `"""ETL"""`,
	} {
		if got := snowflake.Identifier(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// named is an account whose user has the name, and logs in as etl@corp.example.
func named(t *testing.T, name string) (*localsnowflake.Server, *snowflake.Client) {
	t.Helper()
	server, client := local(t, "myaccount")
	server.CreateUserWithLogin(snowflake.Identifier(name), "etl@corp.example")
	server.SetPublicKey(snowflake.Identifier(name), 1, &testkey.Key(0).RSA().PublicKey)
	client.Login = "Etl@Corp.example"
	return server, client
}

func TestClient_LoginNameUnlikeName(t *testing.T) {
	key := testkey.Key(0)
	for _, name := range []string{"SVC_ETL", "svc_etl", "Svc Etl", `svc "etl"`, "SELECT"} {
		server, client := named(t, name)
		if err := client.Accepts(t.Context(), key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		identified, err := client.Identify(t.Context(), key)
		if err != nil || identified.User != name || client.User != "" {
			t.Errorf("%s: %+v, error %v", name, identified, err)
			continue
		}
		slots, err := client.Slots(t.Context(), key)
		if err != nil || slots[0].Fingerprint != key.Fingerprint() {
			t.Errorf("%s: slots %v, error %v", name, slots, err)
		}
		if _, err := client.KeyPairs(t.Context(), key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := client.Change(t.Context(), key, snowflake.SetKey(identified.User, slots[1], spki(t, testkey.Key(1)))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := server.Fingerprints(snowflake.Identifier(name))[1]; got != testkey.Key(1).Fingerprint() {
			t.Errorf("%s: %s is assigned", name, got)
		}
	}
}

// How CURRENT_USER() gives a name that needs quotes is not documented.
func TestIdentify_TakesAQuotedName(t *testing.T) {
	for cell, want := range map[string]string{`SVC`: "SVC", `svc`: "svc", `\"svc etl\"`: "svc etl", `\"a\"\"b\"`: `a"b`} {
		client := &snowflake.Client{Account: "a", Login: "u", UserAgent: "test", HTTP: &http.Client{Transport: fixed{200, `{"code":"090001","data":[["` + cell + `"]]}`}}}
		if identified, err := client.Identify(t.Context(), testkey.Key(0)); err != nil || identified.User != want {
			t.Errorf("%s: %+v, error %v", cell, identified, err)
		}
	}
	for _, data := range []string{`[]`, `[[]]`, `[[""]]`, `[[null]]`, `[["a","b"]]`, `[["a\u001b[2J"]]`, `[["` + strings.Repeat("x", 256) + `"]]`} {
		client := &snowflake.Client{Account: "a", Login: "u", UserAgent: "test", HTTP: &http.Client{Transport: fixed{200, `{"code":"090001","data":` + data + `}`}}}
		if identified, err := client.Identify(t.Context(), testkey.Key(0)); err == nil || failure.Class(err) != keyfile.ClassOther {
			t.Errorf("%.40s: %+v, error %v", data, identified, err)
		}
	}
}

func TestClient_RoleIsFolded(t *testing.T) {
	server, client, key := assigned(t)
	server.SetRoles("ETL", "loader", `"Auditor"`)
	for text, accepted := range map[string]bool{
		"loader": true, "LOADER": true, `"LOADER"`: true, `"loader"`: false, `"Auditor"`: true, "auditor": false, "": true,
	} {
		var err error
		if client.Role, err = snowflake.ParseRole(text); err != nil {
			t.Fatal(err)
		}
		if err := client.Accepts(t.Context(), key); (err == nil) != accepted {
			t.Errorf("%s: %v", text, err)
		}
	}
	client.Role = ""
	if roles, err := client.AvailableRoles(t.Context(), key); err != nil || !slices.Equal(roles, []snowflake.Role{"LOADER", "Auditor", "PUBLIC"}) {
		t.Errorf("%v, error %v", roles, err)
	}
}

// Where nothing vouches for a host another answers, or the settings of trust are wrong. An expired certificate is an outage.
func TestAccepts_UntrustedHostIsNotUnreachable(t *testing.T) {
	for name, tc := range map[string]struct {
		cause error
		class keyfile.ErrorClass
		says  string
	}{
		"an unknown authority":   {x509.UnknownAuthorityError{}, keyfile.ClassOther, "AWS_CA_BUNDLE or SSL_CERT_FILE"},
		"an expired certificate": {x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, keyfile.ClassNetwork, "synchronise this machine's clock"},
	} {
		through := failing{&tls.CertificateVerificationError{Err: tc.cause}}
		client := &snowflake.Client{Account: "a", Login: "u", UserAgent: "test", HTTP: &http.Client{Transport: through}}
		err := client.Accepts(t.Context(), testkey.Key(0))
		if failure.Class(err) != tc.class || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v of class %s, want %s with %q", name, err, failure.Class(err), tc.class, tc.says)
		}
	}
}

// failing gives the same error for every request.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestAccepts_WrongSettingIsNotUnreachable(t *testing.T) {
	dns := func(found bool) error {
		return &net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", Err: "lookup", IsNotFound: !found}}
	}
	for name, tc := range map[string]struct {
		through http.RoundTripper
		class   keyfile.ErrorClass
	}{
		"no such host":             {failing{dns(false)}, keyfile.ClassOther},
		"another's certificate":    {failing{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}}, keyfile.ClassOther},
		"http at this port":        {failing{http.ErrSchemeMismatch}, keyfile.ClassOther},
		"no TLS at this port":      {failing{tls.RecordHeaderError{Msg: "x"}}, keyfile.ClassOther},
		"no such account":          {fixed{404, "not found"}, keyfile.ClassOther},
		"no such account, by 403":  {fixed{403, "<html>forbidden"}, keyfile.ClassOther},
		"https at this port":       {fixed{400, "Client sent an HTTP request to an HTTPS server."}, keyfile.ClassOther},
		"no resolver":              {failing{dns(true)}, keyfile.ClassNetwork},
		"no such proxy":            {failing{&net.OpError{Op: "proxyconnect", Err: dns(false)}}, keyfile.ClassNetwork},
		"a page, not Snowflake":    {fixed{200, "<html>"}, keyfile.ClassOther},
		"a page without end":       {fixed{200, strings.Repeat("<p>", 1<<20)}, keyfile.ClassOther},
		"a page without end, 404":  {fixed{404, strings.Repeat("<p>", 1<<20)}, keyfile.ClassOther},
		"connection refused":       {failing{&net.OpError{Op: "dial", Err: errors.New("connection refused")}}, keyfile.ClassNetwork},
		"a proxy wants a password": {fixed{407, "<html>"}, keyfile.ClassNetwork},
		"too busy":                 {fixed{429, ""}, keyfile.ClassNetwork},
		"an outage":                {fixed{503, ""}, keyfile.ClassNetwork},
	} {
		client := &snowflake.Client{Account: "a", Login: "u", UserAgent: "test", HTTP: &http.Client{Transport: tc.through}}
		err := client.Accepts(t.Context(), testkey.Key(0))
		if failure.Class(err) != tc.class || tc.class == keyfile.ClassOther && !strings.Contains(err.Error(), "check SNOWFLAKE_ACCOUNT and SNOWFLAKE_HOST") {
			t.Errorf("%s: error %v of class %s, want %s", name, err, failure.Class(err), tc.class)
		}
	}
}
