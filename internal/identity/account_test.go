package identity_test

import (
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/snowkey/snowkey/internal/identity"
)

// A form is a row of testdata/accounts.tsv, against which the sidecar and the Go helper are tested, too.
type form struct{ text, host, name, source string }

func forms(t testing.TB) []form {
	t.Helper()
	table, err := os.ReadFile("testdata/accounts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var all []form
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(strings.TrimSpace(line), "\t")
		text, err := strconv.Unquote(cells[0])
		if err != nil || len(cells) != 4 {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, form{text, cells[1], cells[2], cells[3]})
	}
	return all
}

func TestParseAccount_EveryForm(t *testing.T) {
	for _, f := range forms(t) {
		a, err := identity.ParseAccount(f.text)
		if err != nil || a.Host() != f.host || a.Name() != f.name {
			t.Errorf("%q (%s): %q, host %s, name %s, error %v; want %s, %s", f.text, f.source, a, a.Host(), a.Name(), err, f.host, f.name)
		}
		if again, err := identity.ParseAccount(string(a)); err != nil || again != a {
			t.Errorf("%q is read as %q, and that as %q, error %v", f.text, a, again, err)
		}
	}
}

func TestParseAccount_RefusalNamesTheForm(t *testing.T) {
	const form = "write the account's identifier"
	for text, want := range map[string]string{
		"https://":                          form,
		".":                                 form,
		"..":                                form,
		"-acct":                             form,
		"acct-":                             form,
		"my acct":                           form,
		"myorg-acct,other":                  form,
		"myorg/acct":                        form,
		"myorg-acct.other":                  form,
		"myorg..acct":                       form,
		"xy12345.aws":                       form,
		"xy12345.us-east-1.":                "",
		"xy12345.us_east_1.aws":             form,
		"xy12345.us-east-1.azur":            form,
		"xy12345.us-east-1.aws.azure":       form,
		"a.b.c.us-east-1.aws":               form,
		"s3.us-east-1.amazonaws.com":        form,
		"xy12345.US_EAST_1":                 form, // AWS in capitals, SHOW REGIONS
		"xy12345.us_west_2":                 form,
		"xy12345.us_gov_west_1":             form,
		"xy12345.AWS_US_EAST_1":             form, // CURRENT_REGION()
		"xy12345.aws_us_east_1.privatelink": form,
		"AWS_US_WEST_2.XY12345":             form, // CURRENT_REGION() before CURRENT_ACCOUNT()
		"PUBLIC.AWS_US_WEST_2":              form, // CURRENT_REGION() in some organizations
		"xy12345.westeurope":                form, // Azure's own name
		"xy12345.eastus2":                   form,
		"xy12345.southcentralus":            form,
		"xy12345.canadacentral":             form,
		"xy12345.usgovvirginia":             form,
		"xy12345.AZURE_EASTUS2":             form,
		"xy12345.GCP_EUROPE_WEST2":          form,
		"xy12345.us_central1":               form,
		"xy12345.azure":                     form,
		"app.us-east-1.privatelink.snowflakecomputing.com": form,
		"APP.us-east-1.privatelink":                        form,
		"snowflakecomputing.com":                           form,
		".snowflakecomputing.com":                          form,
		"myorg-acct.snowflakecomputing":                    form,
		"myorg-acct.snowflakecomputing.co":                 form,
		"myorg-acct\nother":                                "line break",
		"https://app.snowflake.com":                        form,
		"https://app.snowflake.com/myorg":                  form,
		"https://snowflake.corp.example":                   "SNOWFLAKE_HOST",
		"https://myorg-acct.snowflake.example:443":         "SNOWFLAKE_HOST",
		"myorg-acct.snowflakecomputing.com:8443":           "SNOWFLAKE_PORT",
		"127.0.0.1:8080":                                   "SNOWFLAKE_PORT",
		"myorg-acct:x":                                     "not a port",
		"ftp://myorg-acct":                                 "not a port",
		"etl:hunter2@myorg-acct":                           "password",
		"snowflake://etl:hunter2@myorg-acct/db":            "password",
		"<account>":                                        form,
		"${SNOWFLAKE_ACCOUNT}":                             form,
		"-----BEGIN PRIVATE KEY-----":                      form,
		strings.Repeat("a", 64):                            form,
		"abc." + strings.Repeat("a", 60):                   form,
		strings.Repeat("abc.", 70) + "us-east-1":           form,
		strings.Repeat("a", 10_000):                        "too long",
		"müller":                                           form,
		"\xd2\xd2.snowflakecomputing.com":                  form, // two bytes that are six in lower case
	} {
		a, err := identity.ParseAccount(text)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, error %v; want one with %q", text, a, err, want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%q: the error repeats it: %v", text, err)
		}
	}
}

func TestParseAccount_NothingIsNoAccount(t *testing.T) {
	for _, text := range []string{"", " ", "\r\n", `""`, "' '"} {
		if a, err := identity.ParseAccount(text); a != "" || err != nil || a.Host() != "" || a.Name() != "" {
			t.Errorf("%q: %q, error %v", text, a, err)
		}
	}
}

func TestParseHost_EveryForm(t *testing.T) {
	type want struct {
		host string
		port int
	}
	for text, want := range map[string]want{
		"":                                  {"", 0},
		"myorg-acct.snowflakecomputing.com": {"myorg-acct.snowflakecomputing.com", 0},
		"my_host.example":                   {"my_host.example", 0},
		"\t'snowflake.corp.example'\r":      {"snowflake.corp.example", 0},
		"https://snowflake.corp.example:8443/api": {"snowflake.corp.example", 8443},
		"snowflake.corp.example.:443":             {"snowflake.corp.example", 443},
		"localhost":                               {"localhost", 0},
		"127.0.0.1:8080":                          {"127.0.0.1", 8080},
		"::1":                                     {"::1", 0},
		"[::1]":                                   {"::1", 0},
		"[::1]:8080":                              {"::1", 8080},
		"fe80::1%eth0":                            {"fe80::1%eth0", 0},
	} {
		if host, port, err := identity.ParseHost(text); err != nil || host != want.host || port != want.port {
			t.Errorf("%q: %s, %d, error %v; want %+v", text, host, port, err, want)
		}
	}
	for text, want := range map[string]string{
		"http://127.0.0.1:8080":       "set the protocol",
		"etl:hunter2@snowflake":       "password",
		"host:":                       "not a port",
		"host:0":                      "not a port",
		"host:65536":                  "not a port",
		"two hosts":                   "not the name of a host",
		"fe80::1%eth0 x":              "not the name of a host",
		"host..example":               "not the name of a host",
		"-host":                       "not the name of a host",
		strings.Repeat("a.", 200):     "not the name of a host",
		"host\nother":                 "line break",
		"postgres://host.example/abc": "not a port",
	} {
		if host, _, err := identity.ParseHost(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %s, error %v; want one with %q", text, host, err, want)
		}
	}
}

func TestParseUser_EveryForm(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "svc": "svc", " svc\r\n": "svc", `"svc"`: "svc", "'etl@corp.example'": "etl@corp.example",
		"\ufeffSVC": "SVC", "Jürgen Müller": "Jürgen Müller", "corp\\etl": "corp\\etl",
	} {
		if got, err := identity.ParseUser(text); err != nil || got != want {
			t.Errorf("%q: %q, error %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"a\nb", "a\x1b[2J", strings.Repeat("a", 256)} {
		if got, err := identity.ParseUser(text); err == nil || !strings.Contains(err.Error(), "LOGIN_NAME") {
			t.Errorf("%q: %q, error %v", text, got, err)
		}
	}
}

func FuzzParseAccount(f *testing.F) {
	for _, form := range forms(f) {
		f.Add(form.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := identity.ParseAccount(text)
		if err != nil {
			if a != "" || len(err.Error()) > 500 {
				t.Fatalf("%q: %q with error %v", text, a, err)
			}
			return
		}
		if a == "" {
			return
		}
		if again, err := identity.ParseAccount(string(a)); err != nil || again != a {
			t.Fatalf("%q is read as %q, and that as %q, error %v", text, a, again, err)
		}
		if strings.HasPrefix(strings.ToLower(string(a)), "app-") && strings.HasSuffix(strings.ToLower(string(a)), ".privatelink") {
			return // an organization that is named app, whose host may be one of Snowsight, too
		}
		if byHost, err := identity.ParseAccount(a.Host()); err != nil || byHost.Host() != a.Host() {
			t.Fatalf("%q: host %s is read as %q, error %v", text, a.Host(), byHost, err)
		}
		if host, port, err := identity.ParseHost(a.Host()); err != nil || host != a.Host() || port != 0 {
			t.Fatalf("%q: host %s is read as %s, %d, error %v", text, a.Host(), host, port, err)
		}
		if u, err := url.Parse("https://" + a.Host()); err != nil || u.Host != a.Host() {
			t.Fatalf("%q: host %s makes no address: %v", text, a.Host(), err)
		}
		if name := a.Name(); name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == '.' || unicode.IsLower(r) || r > unicode.MaxASCII }) {
			t.Fatalf("%q: name %q", text, name)
		}
	})
}

func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"myorg-acct.snowflakecomputing.com", " 'snowflake.corp.example'\r", "https://snowflake.corp.example:8443/api", "[::1]:8080", "::1", "a_b.example."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, port, err := identity.ParseHost(text)
		if err != nil {
			if host != "" || port != 0 || len(err.Error()) > 300 {
				t.Fatalf("%q: %q, %d with error %v", text, host, port, err)
			}
			return
		}
		if port < 0 || port > 65535 || strings.ContainsAny(host, " \t\r\n/@?#") {
			t.Fatalf("%q: %q, %d", text, host, port)
		}
		if again, _, err := identity.ParseHost(host); err != nil || again != host {
			t.Fatalf("%q is read as %q, and that as %q, error %v", text, host, again, err)
		}
	})
}
