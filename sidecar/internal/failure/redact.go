package failure

import (
	"cmp"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// Libraries repeat in their errors what they were given: settings, addresses with passwords, paths, lines of files. Any
// of it may be a secret, or a secret in the wrong place.

// Redact returns err with a message that can be shown: without values of AWS settings, without paths, and with no more
// of an address than its host. The cause stays. It is for errors of the AWS SDK.
func Redact(err error) error { return redacted{err} }

type redacted struct{ error }

func (r redacted) Error() string { return redact(r.error.Error()) }

func (r redacted) Unwrap() error { return r.error }

var (
	quotedPattern  = lazyregexp.New(`"(?:[^"\\]|\\.)*"`)
	addressPattern = lazyregexp.New(`[a-zA-Z][a-zA-Z0-9+.-]*://\S*`)
	pathPattern    = lazyregexp.New(`(^|\s)/[^:]+`)
	valuePattern   = lazyregexp.New(`=\S+`)
	settingPattern = lazyregexp.New(`^\$?(AWS_[A-Z0-9_]+|[A-Za-z]+_(PROXY|proxy))/?$`)
)

func redact(text string) string {
	variables := secretVariables()
	for _, name := range variables {
		text = replaceValue(text, os.Getenv(name), "$"+name)
	}
	text = quotedPattern().ReplaceAllStringFunc(text, redactQuoted)
	text = addressPattern().ReplaceAllStringFunc(text, redactAddress)
	for _, name := range variables {
		text = replaceValue(text, pathOf(os.Getenv(name)), "$"+name)
	}
	text = pathPattern().ReplaceAllString(text, "${1}a file")
	text = valuePattern().ReplaceAllString(text, "=...")
	return Text(text)
}

// replaceValue replaces the value of a setting, plain or quoted. A value of less than four bytes stays: it may be a
// part of other words.
func replaceValue(text, value, shown string) string {
	if len(value) < 4 {
		return text
	}
	quoted := strconv.Quote(value)
	return strings.NewReplacer(value, shown, quoted[1:len(quoted)-1], shown).Replace(text)
}

// secretVariables are the variables whose values may be in an error of the SDK. The Region may be shown: every address
// of AWS has it.
func secretVariables() []string {
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		aws := strings.HasPrefix(name, "AWS_") && name != "AWS_REGION" && name != "AWS_DEFAULT_REGION"
		if aws || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			names = append(names, name)
		}
	}
	// The longest first: a value may be a part of another one.
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(len(os.Getenv(b)), len(os.Getenv(a))) })
	return names
}

func redactQuoted(quoted string) string {
	text := quoted[1 : len(quoted)-1]
	switch {
	case settingPattern().MatchString(text):
		return quoted
	case addressPattern().MatchString(text):
		return `"` + redactAddress(text) + `"`
	default:
		return `"..."`
	}
}

// redactAddress leaves scheme and host.
func redactAddress(address string) string {
	trimmed := strings.TrimRight(address, `,:;"'`)
	rest := address[len(trimmed):]
	u, err := url.Parse(trimmed)
	if err != nil || u.Host == "" {
		return "an address" + rest
	}
	return u.Scheme + "://" + u.Host + rest
}

// pathOf is the path of an address, "" if the text is no address. On an instance the path of a task's credentials is
// enough to get them.
func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Path
}

// notAnAddress stands for malformed text: any part of it may be the password.
const notAnAddress = "(not an address)"

// Address is a URL for a log: without user, password, query and fragment.
func Address(written string) string {
	u, err := url.Parse(written)
	if err != nil || u.Host == "" {
		return notAnAddress
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

var (
	// addressVariable is a setting of Go, the SDK or snowkey that may hold a password.
	addressVariable = lazyregexp.New(`(?i)^((https?|all)_proxy|aws_endpoint_url.*|aws_container_credentials_full_uri|snowflake_host)=.*@`)
	// userinfo ends at the last @ of a word: a password may have others.
	userinfo = lazyregexp.New("//[^\\s\"'`]*@")
	// misread is text that net/url reports as a port or an escape. In a malformed address it may be the password.
	misread = lazyregexp.New(`(invalid port|invalid URL escape) "(?:\\.|[^"\\])*"`)
)

// WithoutUserinfo removes user and password from every address in text, and nothing else. It is for texts that show the
// rest on purpose, such as those of doctor.
func WithoutUserinfo(text string) string {
	for _, variable := range os.Environ() {
		if !addressVariable().MatchString(variable) {
			continue
		}
		_, value, _ := strings.Cut(variable, "=")
		text = replaceValue(text, value, Address(value))
	}
	return misread().ReplaceAllString(userinfo().ReplaceAllString(text, "//"), "$1")
}
