package failure

import (
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// notAnAddress stands for malformed text: any part of it may be the password.
const notAnAddress = "(not an address)"

// Address is a URL that is fit for a log: without user, password, query and fragment.
func Address(written string) string {
	u, err := url.Parse(written)
	if err != nil || u.Host == "" {
		return notAnAddress
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

var (
	// addressVariable is a setting of Go, the SDK or snowkey that may hold a password.
	addressVariable = regexp.MustCompile(`(?i)^((https?|all)_proxy|aws_endpoint_url.*|aws_container_credentials_full_uri|snowflake_host)=.*@`)
	// userinfo ends at the last @ of a word: a password may have others.
	userinfo = regexp.MustCompile("//[^\\s\"'`]*@")
	// misread is what net/url takes for a port or an escape, and a password of a malformed address may be.
	misread = regexp.MustCompile(`(invalid port|invalid URL escape) "(?:\\.|[^"\\])*"`)
)

// WithoutUserinfo removes user and password from every address in text. Libraries repeat addresses in their errors as
// they are written in settings, whole or in part.
func WithoutUserinfo(text string) string {
	for _, variable := range os.Environ() {
		if !addressVariable.MatchString(variable) {
			continue
		}
		_, value, _ := strings.Cut(variable, "=")
		quoted := strconv.Quote(value)
		for _, form := range []string{value, quoted[1 : len(quoted)-1]} {
			text = strings.ReplaceAll(text, form, Address(value))
		}
	}
	return misread.ReplaceAllString(userinfo.ReplaceAllString(text, "//"), "$1")
}
