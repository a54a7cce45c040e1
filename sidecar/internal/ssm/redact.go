package ssm

import (
	"cmp"
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// Libraries repeat in their errors what they were given: settings, addresses with passwords, paths, lines of files. Any
// of it may be a secret, or a secret in the wrong place, so none of it is shown.

// Redact is err with a message that can be shown: without values of AWS settings, and of addresses only the host. The
// cause stays.
func Redact(err error) error { return redacted{err} }

type redacted struct{ error }

func (r redacted) Error() string { return redact(r.error.Error()) }

func (r redacted) Unwrap() error { return r.error }

var (
	quotedPattern  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	addressPattern = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://\S*`)
	pathPattern    = regexp.MustCompile(`(^|\s)/[^:]+`)
	valuePattern   = regexp.MustCompile(`=\S+`)
	settingPattern = regexp.MustCompile(`^\$?(AWS_[A-Z0-9_]+|[A-Za-z]+_(PROXY|proxy))/?$`)
)

func redact(text string) string {
	variables := secretVariables()
	for _, name := range variables {
		value := os.Getenv(name)
		quoted := strconv.Quote(value)
		text = replace(text, value, "$"+name)
		text = replace(text, quoted[1:len(quoted)-1], "$"+name)
	}
	text = quotedPattern.ReplaceAllStringFunc(text, quotedAsShown)
	text = addressPattern.ReplaceAllStringFunc(text, addressAsShown)
	for _, name := range variables {
		text = replace(text, pathOf(os.Getenv(name)), "$"+name)
	}
	text = pathPattern.ReplaceAllString(text, "${1}a file")
	text = valuePattern.ReplaceAllString(text, "=...")
	return failure.Text(text)
}

// replace leaves out values that are so short that other words have them, too.
func replace(text, value, name string) string {
	if len(value) < 4 {
		return text
	}
	return strings.ReplaceAll(text, value, name)
}

// secretVariables are those whose values may be in an error of the SDK. The Region is in every address of AWS.
func secretVariables() []string {
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		aws := strings.HasPrefix(name, "AWS_") && name != "AWS_REGION" && name != "AWS_DEFAULT_REGION"
		if aws || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			names = append(names, name)
		}
	}
	// A value may be a part of another one.
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(len(os.Getenv(b)), len(os.Getenv(a))) })
	return names
}

func quotedAsShown(quoted string) string {
	text := quoted[1 : len(quoted)-1]
	switch {
	case settingPattern.MatchString(text):
		return quoted
	case addressPattern.MatchString(text):
		return `"` + addressAsShown(text) + `"`
	default:
		return `"..."`
	}
}

// addressAsShown is scheme and host.
func addressAsShown(address string) string {
	trimmed := strings.TrimRight(address, `,:;"'`)
	rest := address[len(trimmed):]
	u, err := url.Parse(trimmed)
	if err != nil || u.Host == "" {
		return "an address" + rest
	}
	return u.Scheme + "://" + u.Host + rest
}

// pathOf is the path of an address, "" if it is none. On an instance the path at which a task's credentials are is all
// that it takes to get them.
func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Path
}

// profileSettings are those of a profile that the SDK may reject.
var profileSettings = []string{
	"account_id_endpoint_mode", "ca_bundle", "credential_process", "credential_source", "defaults_mode", "disable_request_compression",
	"ec2_metadata_service_endpoint_mode", "ec2_metadata_v1_disabled", "max_attempts", "request_checksum_calculation", "request_min_compression_size_bytes",
	"response_checksum_validation", "retry_mode", "role_arn", "source_profile", "sso_account_id", "sso_region", "sso_role_name", "sso_session",
	"sso_start_url", "use_dualstack_endpoint", "use_fips_endpoint", "web_identity_token_file",
}

var variablePattern = regexp.MustCompile(`\bAWS_[A-Z0-9_]+`)

// settingsError says which setting is wrong. The SDK's text repeats lines of files, and is not shown at all.
func settingsError(err error) error {
	text := err.Error()
	if _, ok := errors.AsType[config.SharedConfigProfileNotExistError](err); ok {
		return errors.New("AWS settings: there is no profile of the name in AWS_PROFILE")
	}
	for _, name := range variablePattern.FindAllString(text, -1) {
		if _, set := os.LookupEnv(name); set {
			return errors.New("AWS settings: " + name + " is not valid")
		}
	}
	for _, name := range profileSettings {
		if strings.Contains(text, name) {
			return errors.New("AWS settings: " + name + " of the profile is not valid")
		}
	}
	const uri = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	if os.Getenv(uri) != "" && (strings.Contains(text, "invalid URL") || strings.Contains(text, "host")) {
		return errors.New("AWS settings: " + uri + " is not the address of a credentials endpoint on this machine")
	}
	if strings.Contains(text, "partial credentials") {
		return errors.New("AWS settings: the profile has a part of its credentials only")
	}
	return errors.New("AWS settings: one of them is not valid")
}
