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
	"syscall"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// The Go helper is tested against the same table.
func TestClient_LogsInForEveryFormOfAnAccount(t *testing.T) {
	table, err := os.ReadFile("../../../internal/identity/testdata/accounts.tsv")
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
		var sent *http.Request
		note := through(func(r *http.Request) (*http.Response, error) {
			sent = r
			return fixed{http.StatusUnauthorized, `{"code":"390144","message":"JWT token is invalid."}`}.RoundTrip(r)
		})
		client := &snowflake.Client{Account: account, Login: "Etl@Corp", UserAgent: "test", HTTP: &http.Client{Transport: note}}
		_ = client.Accepts(t.Context(), testkey.Key(0))
		if got, want := sent.URL.Host, cells[1]; got != want {
			t.Errorf("%q: host %s, want %s", text, got, want)
		}
		claims := jwt.MapClaims{}
		if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(sent.Header.Get("Authorization"), "Bearer "), claims); err != nil {
			t.Fatal(err)
		}
		if got, want := claims["sub"].(string), cells[2]+".ETL@CORP"; got != want {
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

func TestIdentifier_QuotesOnlyWhereNeeded(t *testing.T) {
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

func TestClient_LoginNameUnlikeName(t *testing.T) {
	key := testkey.Key(0)
	for _, name := range []string{"SVC_ETL", "svc_etl", "Svc Etl", `svc "etl"`, "SELECT"} {
		server, client := local(t, "myaccount")
		server.CreateUserWithLogin(snowflake.Identifier(name), "etl@corp.example")
		server.SetPublicKey(snowflake.Identifier(name), 1, &testkey.Key(0).RSA().PublicKey)
		client.Login = "Etl@Corp.example"

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

func TestAccepts_AdviceNamesTheKeyThatSaysWhoLogsIn(t *testing.T) {
	for code, want := range map[string]string{
		"394300": "check user= of key etl or SNOWFLAKE_USER:",
		"394307": "check account= of key etl or SNOWFLAKE_ACCOUNT:",
		"390186": "correct role= of key etl or SNOWFLAKE_ROLE,",
		"":       "check account= of key etl or SNOWFLAKE_ACCOUNT,",
	} {
		client := &snowflake.Client{Account: "a", Login: "u", Role: "R", Key: "etl", HTTP: &http.Client{Transport: fixed{403, `{"code":"` + code + `"}`}}}
		if err := client.Accepts(t.Context(), testkey.Key(0)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q", code, err, want)
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
	dial := func(err error) failing { return failing{&net.OpError{Op: "dial", Net: "tcp", Err: err}} }
	proxy := func(err error) failing { return failing{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}} }
	untrusted := func(err error) failing { return failing{&tls.CertificateVerificationError{Err: err}} }
	code := func(status int, code string) fixed { return fixed{status, `{"code":"` + code + `","message":"x"}`} }
	const account = "check SNOWFLAKE_ACCOUNT"
	for name, tc := range map[string]struct {
		through http.RoundTripper
		says    string // with another class than network; "" for an outage
	}{
		"no such host":                       {failing{dns(false)}, account},
		"another's certificate":              {untrusted(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}), account},
		"an authority that is not trusted":   {untrusted(x509.UnknownAuthorityError{}), "AWS_CA_BUNDLE or SSL_CERT_FILE"},
		"an expired certificate":             {untrusted(x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}), "synchronise this machine's clock"},
		"a certificate for other purposes":   {untrusted(x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.IncompatibleUsage}), account},
		"no TLS at this port":                {failing{tls.RecordHeaderError{Msg: "x", Conn: new(net.TCPConn)}}, account},
		"no HTTP at this port":               {failing{errors.New("malformed HTTP response")}, account},
		"no such account":                    {fixed{404, "not found"}, account},
		"no such account, by 513":            {fixed{513, "<html>"}, account},
		"another server, without POST":       {fixed{501, "<html>"}, account},
		"a portal before the network":        {fixed{511, "<html>"}, account},
		"another service wants a login":      {fixed{401, "<html>"}, account},
		"a proxy that fails at all":          {failing{&network.ProxyAnswer{Status: 500}}, account},
		"no such account, by 403":            {fixed{403, "<html>forbidden"}, account},
		"https at this port":                 {fixed{400, "Client sent an HTTP request to an HTTPS server."}, account},
		"a page, not Snowflake":              {fixed{200, "<html>"}, account},
		"a page without end":                 {fixed{200, strings.Repeat("<p>", 1<<20)}, account},
		"a page without end, 404":            {fixed{404, strings.Repeat("<p>", 1<<20)}, account},
		"another service, with codes":        {code(404, "NotFound"), account},
		"another service, that denies":       {code(403, "AccessDenied"), account},
		"an account that is not there":       {code(403, "390201"), account},
		"an API that is not there":           {code(404, "391404"), account},
		"a method that is not there":         {code(405, "391905"), account},
		"a request that cannot be read":      {code(400, "391903"), account},
		"an account that is locked":          {code(403, "390913"), account},
		"a default role that is not granted": {code(400, "390189"), "SHOW GRANTS TO USER u"},
		"another account in the token":       {code(400, "394307"), account},
		"no such proxy":                      {proxy(dns(false)), account},
		"no TLS at the proxy's port":         {proxy(tls.RecordHeaderError{Msg: "x"}), account},
		"a proxy that forbids the host":      {failing{&network.ProxyAnswer{Status: 403}}, account},
		"a proxy that wants a password":      {failing{&network.ProxyAnswer{Status: 407}}, account},
		"a proxy that wants one, for http":   {fixed{407, "<html>"}, account},
		"a proxy that finds no such host":    {failing{&network.ProxyAnswer{Status: 503, NoSuchHost: true}}, account},
		"a SOCKS proxy that refuses":         {failing{errors.New("socks connect: unknown error")}, account},

		"no resolver":                       {failing{dns(true)}, ""},
		"connection refused":                {dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), ""},
		"connection refused, on Windows":    {dial(os.NewSyscallError("connectex", syscall.Errno(10061))), ""},
		"reset, on Windows":                 {failing{&net.OpError{Op: "read", Err: os.NewSyscallError("wsarecv", syscall.Errno(10054))}}, ""},
		"no address of this kind here":      {dial(os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)), account},
		"an address without its zone":       {dial(os.NewSyscallError("connect", syscall.EINVAL)), account},
		"another service, that accepts":     {fixed{200, `{"code":"OK"}`}, account},
		"no route":                          {dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), ""},
		"reset":                             {failing{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}}, ""},
		"silence":                           {dial(os.ErrDeadlineExceeded), ""},
		"hung up":                           {failing{io.EOF}, ""},
		"hung up before the request":        {failing{errors.New("http: server closed idle connection")}, ""},
		"hung up in the answer":             {failing{io.ErrUnexpectedEOF}, ""},
		"a proxy that is down":              {proxy(os.NewSyscallError("connect", syscall.ECONNREFUSED)), ""},
		"a proxy that does not get through": {failing{&network.ProxyAnswer{Status: 503}}, ""},
		"a proxy that waits in vain":        {failing{&network.ProxyAnswer{Status: 504}}, ""},
		"a network policy":                  {code(403, "390422"), ""},
		"too busy":                          {fixed{429, ""}, ""},
		"too late":                          {fixed{408, ""}, ""},
		"an outage":                         {fixed{503, ""}, ""},
		"an outage that Snowflake tells of": {code(503, "390189"), ""},
	} {
		client := &snowflake.Client{Account: "a", Login: "u", UserAgent: "test", HTTP: &http.Client{Transport: tc.through}}
		err := client.Accepts(t.Context(), testkey.Key(0))
		if err == nil || (failure.Class(err) == keyfile.ClassNetwork) != (tc.says == "") || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v of class %s; want it to say %q", name, err, failure.Class(err), tc.says)
		}
	}
}

// What listens at the port is found out by its own bytes.
func TestAccepts_OtherProtocolIsNotUnreachable(t *testing.T) {
	greeting := func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n") }
	alert := func(config *tls.Config) func(net.Conn) {
		return func(conn net.Conn) { _ = tls.Server(conn, config).Handshake() }
	}
	refuseName := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no such name") }}
	for name, tc := range map[string]struct {
		protocol string
		answer   func(net.Conn)
	}{
		"SSH at the port of http":  {"http", greeting},
		"SSH at the port of https": {"https", greeting},
		"no certificate":           {"https", alert(&tls.Config{})},
		"another server name":      {"https", alert(refuseName)},
		"TLS 1.1":                  {"https", alert(&tls.Config{MaxVersion: tls.VersionTLS11, Certificates: []tls.Certificate{{}}})},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
				tc.answer(conn)
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn) // a reset would be an outage
				conn.Close()
			}
		}()
		client := &snowflake.Client{Account: "a", Login: "u", Protocol: tc.protocol, Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port}
		err = client.Accepts(t.Context(), testkey.Key(0))
		if failure.Class(err) != keyfile.ClassOther || !strings.Contains(err.Error(), "check SNOWFLAKE_HOST, SNOWFLAKE_PORT") {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
		_ = listener.Close()
	}
}

func TestAccepts_AdviceNamesTheSettingsOfTheAddress(t *testing.T) {
	client := &snowflake.Client{
		Account: "a", Login: "u", Host: "localhost", Port: 1, Protocol: "http",
		HTTP: &http.Client{Transport: fixed{404, ""}},
	}
	const want = "check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL"
	if err := client.Accepts(t.Context(), testkey.Key(0)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v; want %q", err, want)
	}
}
