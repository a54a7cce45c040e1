package failure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

// addresses have a password that contains "hunter2", and what is shown of each.
var addresses = map[string]string{
	"http://user:hunter2@host:1/path":         "http://host:1/path",
	"http://hunter2@host":                     "http://host",
	"https://host/path?token=hunter2#hunter2": "https://host/path",
	"http://user:a@hunter2@host/":             "http://host/",
	"http://user:hunter2@host:1:2/":           notAnAddress,
	"http://user:hunter2@host:port/":          notAnAddress,
	"http://user:hunter2/x@host/":             notAnAddress,
	"http://user:hunter2%zz@host/":            notAnAddress,
	"http://user:hunter2 x@host/":             notAnAddress,
	"http://user:\"hunter2\"@host/\n":         notAnAddress,
	"user:hunter2@host":                       notAnAddress,
	"hunter2@host":                            notAnAddress,
	"":                                        notAnAddress,
}

func TestAddress_HasNoPassword(t *testing.T) {
	for written, want := range addresses {
		if got := Address(written); got != want {
			t.Errorf("%s: %q, want %q", written, got, want)
		}
	}
}

// Errors are those of the libraries that read addresses.
func TestWithoutUserinfo_OfErrorsThatRepeatAnAddress(t *testing.T) {
	for written := range addresses {
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM", "SNOWFLAKE_HOST"} {
			t.Run(name+"="+written, func(t *testing.T) {
				t.Setenv(name, written)
				_, parsed := url.Parse(written)
				called := &url.Error{Op: "Get", URL: written, Err: io.EOF}
				for _, text := range []string{written, "`" + written + "` is no URI", called.Error(), fmt.Sprint(parsed)} {
					if shown := WithoutUserinfo(text); strings.Contains(shown, "hunter2") && strings.Contains(written, "@") {
						t.Errorf("%s\nbecomes\n%s", text, shown)
					}
				}
			})
		}
	}
}

func TestWithoutUserinfo_KeepsWhatIsNoPassword(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:3128")
	for _, text := range []string{
		"proxyconnect tcp: dial tcp 127.0.0.1:3128: connect: connection refused",
		"http://proxy:3128, does not answer",
		"arn:aws:sts::123456789012:assumed-role/app/someone@example.org",
		"",
	} {
		if got := WithoutUserinfo(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

const secretSetting = "hunter2SECRETsetting"

// net/http reads the variables of a proxy once, so that this has the errors of a process that started with one.
func TestRedact_OfProxies(t *testing.T) {
	for _, proxy := range []string{
		"http://u:" + secretSetting + "@127.0.0.1:1", "http://u:" + secretSetting + "@127.0.0.1:1:2/", "u:" + secretSetting + "@127.0.0.1",
		"http://u:" + secretSetting + "@", "http://u:pa@" + secretSetting + "/x@h:1",
	} {
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"} {
			t.Run(name+"="+proxy, func(t *testing.T) {
				t.Setenv(name, proxy)
				for _, text := range []string{"invalid proxy address %q: parse failed", "proxyconnect tcp: dial tcp: lookup %s: no such host", "Post \"%s\": EOF"} {
					if got := Redact(fmt.Errorf(text, proxy)).Error(); strings.Contains(got, secretSetting) {
						t.Error(got)
					}
				}
			})
		}
	}
}

func TestRedact_KeepsTheCauseAndItsWords(t *testing.T) {
	err := Redact(fmt.Errorf("dial tcp 10.0.0.1:443: i/o timeout: %w", context.Canceled))
	if !errors.Is(err, context.Canceled) || err.Error() != "dial tcp 10.0.0.1:443: i/o timeout: context canceled" {
		t.Errorf("%v", err)
	}
	const post = `Post "https://ssm.us-east-1.amazonaws.com/": EOF`
	if got, want := Redact(errors.New(post)).Error(), `Post "https://ssm.us-east-1.amazonaws.com": EOF`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
