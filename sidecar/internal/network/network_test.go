package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// requests are what the proxy of the tests got. net/http reads the proxy's settings once, so TestMain makes them.
var requests struct {
	sync.Mutex
	hosts []string
}

func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Lock()
		defer requests.Unlock()
		requests.hosts = append(requests.hosts, r.Host)
		w.WriteHeader(http.StatusForbidden)
	}))
	for _, variable := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		os.Setenv(variable, proxy.URL)
	}
	for _, variable := range []string{"NO_PROXY", "no_proxy", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		os.Unsetenv(variable)
	}
	code := m.Run()
	proxy.Close()
	os.Exit(code)
}

func TestProxy_GetsNothingForThisMachineAndItsHost(t *testing.T) {
	for _, tc := range []struct {
		source, address string
		proxied         bool
	}{
		{"task role in ECS", "http://169.254.170.2/v2/credentials/1", false},
		{"EKS Pod Identity", "http://169.254.170.23/v1/credentials", false},
		{"EKS Pod Identity over IPv6", "http://[fd00:ec2::23]/v1/credentials", false},
		{"instance metadata", "http://169.254.169.254/latest/meta-data", false},
		{"instance metadata over IPv6", "http://[fd00:ec2::254]/latest/meta-data", false},
		{"instance metadata, IPv4 in IPv6", "http://[::ffff:169.254.169.254]/", false},
		{"link-local IPv6, with a zone", "http://[fe80::1%25eth0]/", false},
		{"loopback", "http://127.0.0.1:4566/", false},
		{"loopback, another address", "http://127.1.2.3/", false},
		{"loopback over IPv6", "http://[::1]:4566/", false},
		{"loopback by name", "http://localhost:4566/", false},

		{"SSM", "https://ssm.us-east-1.amazonaws.com/", true},
		{"Snowflake", "https://acme.snowflakecomputing.com/", true},
		{"a private address", "http://10.0.0.1/", true},
		{"a private IPv6 address", "http://[fd00:ec3::1]/", true},
		{"a name like a link-local address", "http://169.254.170.2.example/", true},
	} {
		requests.Lock()
		requests.hosts = nil
		requests.Unlock()
		direct := ""
		client := http.Client{Transport: &http.Transport{Proxy: Proxy, DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(address); host != "127.0.0.1" || strings.HasSuffix(address, ":4566") {
				direct = address
				return nil, errors.New("no route to host")
			}
			return (&net.Dialer{Timeout: 20 * time.Second}).DialContext(ctx, network, address)
		}}}
		if resp, err := client.Get(tc.address); err == nil {
			resp.Body.Close()
		}
		requests.Lock()
		if proxied := len(requests.hosts) > 0; proxied != tc.proxied || proxied == (direct != "") {
			t.Errorf("%s: the proxy got %q, directly %q", tc.source, requests.hosts, direct)
		}
		requests.Unlock()
	}
}

// unset keeps the settings of one case from the next.
func unset(t *testing.T) {
	t.Helper()
	for _, variable := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"} {
		t.Setenv(variable, "")
	}
}

const secretSetting = "hunter2SECRETsetting"

func TestCheck_Proxies(t *testing.T) {
	for source, tc := range map[string]struct {
		written string
		valid   bool
	}{
		"Docker's and Go's form":                    {"http://proxy.corp:3128", true},
		"no scheme, as in curl":                     {"proxy.corp:3128", true},
		"no scheme and no port":                     {"proxy.corp", true},
		"an IP address, no scheme":                  {"10.0.0.1:3128", true},
		"IPv6":                                      {"http://[2001:db8::1]:3128", true},
		"a slash behind":                            {"http://proxy.corp:3128/", true},
		"TLS to the proxy":                          {"https://proxy.corp:3129", true},
		"SOCKS":                                     {"socks5h://127.0.0.1:1080", true},
		"user and password":                         {"http://u:" + secretSetting + "@proxy.corp:3128", true},
		"a password that is percent-encoded":        {"http://u:p%40" + secretSetting + "@proxy.corp:3128", true},
		"a password with a slash":                   {"http://u:/" + secretSetting + "@proxy.corp:3128", false},
		"a password with a number sign":             {"http://u:1#" + secretSetting + "@proxy.corp:3128", false},
		"a password with a question mark":           {"http://u:1?" + secretSetting + "@proxy.corp:3128", false},
		"a password with a percent sign":            {"http://u:%" + secretSetting + "@proxy.corp:3128", false},
		"docker --env-file, quotes":                 {`"http://proxy.corp:3128"`, false},
		"env file of Windows":                       {"http://proxy.corp:3128\r", false},
		"a space":                                   {"http://proxy.corp:3128 ", false},
		"a scheme that Go does not know":            {"socks4://proxy.corp:1080", false},
		"a scheme alone":                            {"http://", false},
		"a port that is none":                       {"http://proxy.corp:" + secretSetting, false},
		"a template that was not filled in, ${...}": {"http://${PROXY_HOST}:${PROXY_PORT}", false},
	} {
		for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			unset(t)
			t.Setenv(variable, tc.written)
			problems := fmt.Sprint(Check())
			if (problems == "[]") != tc.valid || strings.Contains(problems, secretSetting) || !tc.valid && !strings.Contains(problems, variable+" is not the address of a proxy") || !tc.valid && !strings.Contains(problems, "; write http://HOST:PORT") {
				t.Errorf("%s in %s: %s", source, variable, problems)
			}
		}
	}
}

// Docker and ECS keep the quotes, and the carriage return of a file of Windows, in every variable of an env file.
func TestCheck_NamesWhatAnEnvFileLeavesAroundAValue(t *testing.T) {
	path := files(t)
	for variable, value := range map[string]string{
		"HTTPS_PROXY": "http://proxy.corp:3128", "https_proxy": "http://proxy.corp:3128", "HTTP_PROXY": "proxy.corp", "http_proxy": "http://u:" + secretSetting + "@proxy.corp",
		"AWS_CA_BUNDLE": path("ca.pem"), "SSL_CERT_FILE": path("ca.pem"), "SSL_CERT_DIR": path("certs"),
	} {
		for source, written := range map[string]string{
			"double quotes": `"` + value + `"`, "single quotes": "'" + value + "'", "quotes and a carriage return": `"` + value + "\"\r",
			"a carriage return": value + "\r", "a space": value + " ", "a space before": " " + value, "one quote": `"` + value,
		} {
			unset(t)
			t.Setenv(variable, written)
			problems := Check()
			if text := fmt.Sprint(problems); len(problems) != 1 || !strings.Contains(text, variable) || strings.Contains(text, secretSetting) ||
				!strings.Contains(text, "quotation marks, a space or a carriage return around it") {
				t.Errorf("%s around %s: %v", source, variable, problems)
			}
		}
	}
	for _, variable := range []string{"NO_PROXY", "no_proxy"} {
		for written, valid := range map[string]bool{
			`"169.254.170.2,.corp"`: false, "'.corp'": false, `"169.254.170.2",".corp"`: false, "169.254.170.2, .corp\r": true, "*": true,
		} {
			unset(t)
			t.Setenv(variable, written)
			if problems := Check(); problems != nil {
				t.Errorf("%s=%q without a proxy: %v", variable, written, problems)
			}
			t.Setenv("HTTPS_PROXY", "http://proxy.corp:3128")
			if text := fmt.Sprint(Check()); (text == "[]") != valid || !valid && !strings.Contains(text, variable+" has quotation marks") {
				t.Errorf("%s=%q: %s", variable, written, text)
			}
		}
	}
}

// files are made once: a certificate in the forms that people have.
func files(t *testing.T) (path func(name string) string) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Close()
	der := server.Certificate().Raw
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	directory := t.TempDir()
	for name, data := range map[string]string{
		"ca.pem":           block("CERTIFICATE"),
		"windows.pem":      strings.ReplaceAll(block("CERTIFICATE"), "\n", "\r\n"),
		"comments.pem":     "# Corporate root\nsubject=/CN=corp\n" + block("CERTIFICATE"),
		"with-key.pem":     block("PRIVATE KEY") + block("CERTIFICATE"),
		"one-broken.pem":   strings.Replace(block("CERTIFICATE"), "MII", "AII", 1) + block("CERTIFICATE"),
		"ca.der":           string(der),
		"ca.p7b":           block("PKCS7"),
		"trusted.pem":      block("TRUSTED CERTIFICATE"),
		"key.pem":          block("PRIVATE KEY"),
		"broken.pem":       strings.Replace(block("CERTIFICATE"), "MII", "AII", 1),
		"cut.pem":          block("CERTIFICATE")[:200],
		"empty.pem":        "",
		"page.pem":         "<!DOCTYPE html><title>Log in</title>" + secretSetting,
		"certs/readme.txt": "no certificate",
		"certs/ca.pem":     block("CERTIFICATE"),
		"no-certs/ca.der":  string(der),
	} {
		path := filepath.Join(directory, secretSetting, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return filepath.Join(directory, secretSetting, name) }
}

func TestCheck_Bundles(t *testing.T) {
	path := files(t)
	for _, tc := range []struct{ source, name, says string }{
		{"openssl req -x509", "ca.pem", ""},
		{"a file of Windows", "windows.pem", ""},
		{"openssl s_client -showcerts", "comments.pem", ""},
		{"a server's file, with its key", "with-key.pem", ""},
		{"a bundle with one broken certificate", "one-broken.pem", ""},
		{"exported from Windows, DER", "ca.der", "DER, not PEM; convert it with: openssl x509 -inform der"},
		{"exported from Windows, PKCS#7", "ca.p7b", "PKCS#7, not PEM; convert them with: openssl pkcs7 -print_certs"},
		{"openssl x509 -trustout", "trusted.pem", "OpenSSL's own form; convert it with: openssl x509 -in"},
		{"a key in its place", "key.pem", "the file has no certificate; name a PEM file"},
		{"a broken certificate", "broken.pem", "the file has no certificate; name a PEM file"},
		{"a certificate that was cut", "cut.pem", "the file has no certificate; name a PEM file"},
		{"an empty secret or mount", "empty.pem", "the file is empty; name a PEM file"},
		{"a page of a proxy, downloaded", "page.pem", "the file has no certificate; name a PEM file"},
		{"not in the image", "missing.pem", "no such file or directory; name a PEM file"},
		{"a directory, which Docker mounts for a missing file", "certs", "it is a directory; name a PEM file"},
	} {
		for _, variable := range []string{"AWS_CA_BUNDLE", "SSL_CERT_FILE"} {
			unset(t)
			t.Setenv(variable, path(tc.name))
			wantProblem(t, tc.source, variable, tc.says)
		}
	}
	unset(t)
	t.Setenv("AWS_CA_BUNDLE", "/dev/zero")
	wantProblem(t, "a device", "AWS_CA_BUNDLE", "it is not a regular file")
}

func TestCheck_Directories(t *testing.T) {
	path := files(t)
	for source, tc := range map[string]struct {
		names []string
		says  string
	}{
		"certificates among other files": {[]string{"certs"}, ""},
		"two, one of them missing":       {[]string{"missing", "certs"}, ""},
		"not in the image":               {[]string{"missing"}, "no such file or directory; name a directory"},
		"DER alone":                      {[]string{"no-certs"}, "none of the files has a certificate; name a directory"},
		"a file":                         {[]string{"ca.pem"}, "not a directory; name a directory"},
	} {
		var paths []string
		for _, name := range tc.names {
			paths = append(paths, path(name))
		}
		unset(t)
		t.Setenv("SSL_CERT_DIR", strings.Join(paths, string(os.PathListSeparator)))
		wantProblem(t, source, "SSL_CERT_DIR", tc.says)
	}
}

// wantProblem wants one problem of a variable, or none, which repeats no path.
func wantProblem(t *testing.T, source, variable, says string) {
	t.Helper()
	problems := Check()
	switch text := fmt.Sprint(problems); {
	case says == "" && problems != nil:
		t.Errorf("%s in %s: %v", source, variable, problems)
	case says != "" && (len(problems) != 1 || !strings.Contains(text, variable+": ") || !strings.Contains(text, says) || strings.Contains(text, secretSetting)):
		t.Errorf("%s in %s: %v, want %q", source, variable, problems, says)
	}
}

func TestRoots_AreTheSystemsAndThoseOfTheBundle(t *testing.T) {
	unset(t)
	if Roots() != nil {
		t.Error("not crypto/tls's own without a bundle")
	}
	path := files(t)
	t.Setenv("AWS_CA_BUNDLE", path("missing.pem"))
	system := Roots()
	t.Setenv("AWS_CA_BUNDLE", path("ca.pem"))
	if Roots().Equal(system) {
		t.Error("the bundle adds nothing")
	}
}

func TestAdvice_IsAboutTheProxyThatIsUsed(t *testing.T) {
	refused := errors.New("Forbidden")
	for address, want := range map[string]string{
		"https://ssm.us-east-1.amazonaws.com/": "check the proxy in HTTPS_PROXY, through which ssm.us-east-1.amazonaws.com is called, or name the host in NO_PROXY",
		"http://local.example:4566/":           "check the proxy in HTTP_PROXY, through which local.example:4566 is called, or name the host in NO_PROXY",
		"http://169.254.170.2/v2":              "",
		"http://localhost:4566/":               "",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := Advice(refused, u); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	if got := Advice(refused, nil); got != "" {
		t.Errorf("without an address: %q", got)
	}
}

func TestCheckProxyAnswer_TellsAnOutageFromARefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		header  [2]string
		outage  bool
		advised bool
	}{
		"it forbids the host":            {403, [2]string{}, false, true},
		"it wants a password":            {407, [2]string{}, false, true},
		"it gets a request that is none": {400, [2]string{}, false, true},
		"Squid 3 finds no such host":     {503, [2]string{"X-Squid-Error", "ERR_DNS_FAIL 0"}, false, false},
		"by RFC 9209":                    {502, [2]string{"Proxy-Status", `proxy.corp; error=dns_error; rcode="NXDOMAIN"`}, false, false},
		"Squid does not get through":     {503, [2]string{"X-Squid-Error", "ERR_CONNECT_FAIL 111"}, true, true},
		"it waits in vain":               {504, [2]string{}, true, true},
		"it has too much to do":          {429, [2]string{}, true, true},
		"Squid 5 finds no such host":     {500, [2]string{"X-Squid-Error", "ERR_CANNOT_FORWARD 0"}, false, true},
		"it does not serve CONNECT":      {501, [2]string{}, false, true},
	} {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tc.header[0] != "" {
				w.Header().Set(tc.header[0], tc.header[1])
			}
			w.WriteHeader(tc.status)
		}))
		address, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(address), OnProxyConnectResponse: CheckProxyAnswer}}
		_, err = client.Get("https://acme.snowflakecomputing.com/")
		proxy.Close()
		answer, found := errors.AsType[*ProxyAnswer](err)
		if !found || answer.IsOutage() != tc.outage || answer.Status != tc.status {
			t.Errorf("%s: %v", name, err)
		}
		if advice := Advice(err, &url.URL{Scheme: "https", Host: "acme.snowflakecomputing.com"}); (advice != "") != tc.advised {
			t.Errorf("%s: advice %q", name, advice)
		}
	}
}

func TestAdvice_NamesTheVariableThatIsUsed(t *testing.T) {
	to := &url.URL{Scheme: "https", Host: "ssm.us-east-1.amazonaws.com"}
	for _, tc := range []struct{ upper, lower, want string }{{"x", "", "HTTPS_PROXY"}, {"", "x", "https_proxy"}, {"x", "x", "HTTPS_PROXY"}} {
		unset(t)
		t.Setenv("HTTPS_PROXY", tc.upper)
		t.Setenv("https_proxy", tc.lower)
		if got := Advice(errors.New("Forbidden"), to); !strings.HasPrefix(got, "check the proxy in "+tc.want+", ") {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}

func TestAdvice_IsAboutTheCertificate(t *testing.T) {
	to := &url.URL{Scheme: "http", Host: "localhost"}
	for want, cause := range map[string]error{
		trustAdvice:   x509.UnknownAuthorityError{},
		expiredAdvice: x509.CertificateInvalidError{Reason: x509.Expired},
		"":            x509.HostnameError{Certificate: &x509.Certificate{}, Host: "localhost"},
	} {
		if got := Advice(&tls.CertificateVerificationError{Err: cause}, to); got != want {
			t.Errorf("%T: %q, want %q", cause, got, want)
		}
	}
}
