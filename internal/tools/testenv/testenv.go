// Package testenv makes the tests of a package that imports it independent of the shell that runs them: of settings
// for AWS, Snowflake and snowkey, proxies, time zone, language, umask, nohup and a long TMPDIR. Import it for its effect.
//
// It changes nothing in a program that a test has started, also if that is the test binary itself: such a program has
// the environment that its test gave it.
package testenv

import (
	"os"
	"slices"
	"strings"
)

// prefixes begin the names of variables that some program here, or a library in it, reads.
var prefixes = []string{"AWS_", "SNOWFLAKE_", "SNOWKEY_", "GOSNOWFLAKE_", "LC_", "OTEL_", "ECS_"}

// names are likewise, and compared without regard to case: a proxy's variable may be in lower case.
var names = []string{
	"SECRET_KEY", "PRIVATE_KEY_PASSPHRASE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "TZ", "LANG", "LANGUAGE",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "TRACEPARENT",
}

// longestDir leaves room for a test's own directory in the name of a socket, which Linux limits to 107 bytes.
const longestDir = 20

func init() {
	if !slices.ContainsFunc(os.Args[1:], func(arg string) bool { return strings.HasPrefix(arg, "-test.") }) {
		return
	}
	clean()
	setUmask()
	heedHangup()
}

func clean() {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); isSetting(name) {
			_ = os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		// Not those in the home directory, which other programs, such as the go command, still need.
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "SNOWFLAKE_HOME": os.DevNull,
		"AWS_EC2_METADATA_DISABLED": "true",
		// Without a value: a test is in no pod, wherever its shell runs.
		"KUBERNETES_SERVICE_HOST": "",
	} {
		_ = os.Setenv(name, value)
	}
	if len(os.TempDir()) > longestDir {
		_ = os.Unsetenv("TMPDIR")
	}
}

func isSetting(name string) bool {
	upper := strings.ToUpper(name)
	return slices.Contains(names, upper) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(upper, p) })
}
