package config_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/sidecar/internal/config"
)

const pemBeginning = "-----BEGIN ENCRYPTED PRIVATE KEY-----"

// loadExec reads the settings of exec, whose CMD has an environment.
func loadExec(t *testing.T, environ ...string) (*config.ExecConfig, error) {
	t.Helper()
	c := new(config.ExecConfig)
	return c, loadInto(t, c, nil, environ...)
}

func TestSecretKey_IsTheApplicationsWhenAnotherSettingNamesTheKey(t *testing.T) {
	for application, value := range map[string]string{
		"Django, startproject":              "django-insecure-x1y2z3&(hunter2$+9=%w",
		"Flask, secrets.token_hex":          "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
		"docker compose, a variable unset":  "",
		"a signing key, Django Simple JWT":  pemBeginning,
		"an env file with quotes around it": `"hunter2"`,
	} {
		for named, setting := range map[string]string{
			"a parameter":        "SNOWKEY_KEY_PARAMETER=/k",
			"several parameters": "SNOWKEY_KEYS=name=a,key-parameter=/a",
			"SNOWKEY_SECRET_KEY": "SNOWKEY_SECRET_KEY=" + pemBeginning,
		} {
			environ := []string{"A=1", "SECRET_KEY=" + value, setting}
			c, err := loadExec(t, environ...)
			if err != nil {
				t.Errorf("%s beside %s: %v", application, named, err)
				continue
			}
			if text := string(c.Keys[0].SecretKey.Bytes()); text != "" && text != pemBeginning {
				t.Errorf("%s beside %s: the key is %q", application, named, text)
			}
			theirs := "SECRET_KEY="+value != strings.TrimPrefix(setting, "SNOWKEY_") // else it is the key
			if got := config.WithoutSecrets(c, environ); slices.Contains(got, "SECRET_KEY="+value) != theirs || slices.ContainsFunc(got, isOwnSecret) {
				t.Errorf("%s beside %s: CMD has %q", application, named, got)
			}
			if warned := c.Warnings() != nil; warned != (value == pemBeginning) {
				t.Errorf("%s beside %s: warnings %v", application, named, c.Warnings())
			}
		}
	}
}

func isOwnSecret(entry string) bool { return strings.HasPrefix(entry, "SNOWKEY_SECRET_KEY=") }

func TestSecretKey_IsTheKeyWhenNothingElseNamesIt(t *testing.T) {
	for _, variable := range []string{"SECRET_KEY", "SNOWKEY_SECRET_KEY"} {
		environ := []string{"A=1", variable + "=" + pemBeginning, "SECRET_KEY_2=x", "PRIVATE_KEY_PASSPHRASE=", "B=SECRET_KEY=x"}
		c, err := loadExec(t, environ...)
		if err != nil {
			t.Errorf("%s: %v", variable, err)
			continue
		}
		if k := c.Keys[0]; string(k.SecretKey.Bytes()) != pemBeginning || k.Source() != variable || c.Warnings() != nil {
			t.Errorf("%s: %+v, %v", variable, k, c.Warnings())
		}
		if got, want := config.WithoutSecrets(c, environ), []string{"A=1", "SECRET_KEY_2=x", "B=SECRET_KEY=x"}; !slices.Equal(got, want) {
			t.Errorf("%s: CMD has %q, want %q", variable, got, want)
		}
	}
}

// A task definition that sets both for a while hands CMD no key.
func TestSecretKey_OfTheSameKeyIsNotTheApplications(t *testing.T) {
	testenv.Slow(t)
	key, other := testkey.Encrypted(testkey.Key(0), "hunter2"), testkey.Encrypted(testkey.Key(1), "hunter2")
	for form, tc := range map[string]struct {
		shared string
		theirs bool
	}{
		"the same text":                 {key, false},
		"without the line break at end": {strings.TrimSpace(key), false},
		"line breaks written out":       {`"` + strings.ReplaceAll(key, "\n", `\n`) + `"`, false},
		"base64 of it":                  {base64.StdEncoding.EncodeToString([]byte(key)), false},
		"another key":                   {other, true},
		"a secret of Django":            {"django-insecure-hunter2", true},
		"nothing":                       {"", true},
	} {
		environ := []string{"SNOWKEY_SECRET_KEY=" + key, "SECRET_KEY=" + tc.shared}
		c, err := loadExec(t, environ...)
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		if got := config.WithoutSecrets(c, environ); slices.Contains(got, "SECRET_KEY="+tc.shared) != tc.theirs {
			t.Errorf("%s: CMD has %d variables", form, len(got))
		}
	}
	body := strings.Join(strings.Split(strings.TrimSpace(key), "\n")[1:len(strings.Split(strings.TrimSpace(key), "\n"))-1], "")
	for _, shared := range []string{`{"privateKey":"` + body + `","passphrase":"hunter2"}`, `{ "privateKey": "` + body + "\"}\n", body} {
		environ := []string{`SNOWKEY_SECRET_KEY={"privateKey":"` + body + `","passphrase":"hunter2"}`, "SECRET_KEY=" + shared}
		if c, err := loadExec(t, environ...); err != nil || len(config.WithoutSecrets(c, environ)) > 0 {
			t.Errorf("of a managed secret CMD has %.20s..., error %v", shared, err)
		}
	}
}

func TestPassphrase_IsTheApplicationsWhenAnotherSettingNamesIt(t *testing.T) {
	const application = "PRIVATE_KEY_PASSPHRASE=hunter2"
	for named, tc := range map[string]struct {
		environ []string
		theirs  bool
	}{
		"its parameter":      {[]string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_PASSPHRASE_PARAMETER=/p"}, true},
		"several keys":       {[]string{"SNOWKEY_KEYS=name=a,key-parameter=/a,passphrase-parameter=/p"}, true},
		"the key's alone":    {[]string{"SNOWKEY_KEY_PARAMETER=/k"}, false},
		"SNOWKEY_SECRET_KEY": {[]string{"SNOWKEY_SECRET_KEY=" + pemBeginning}, false},
		"SECRET_KEY":         {[]string{"SECRET_KEY=" + pemBeginning}, false},
	} {
		environ := append([]string{application}, tc.environ...)
		c, err := loadExec(t, environ...)
		if err != nil {
			t.Errorf("%s: %v", named, err)
			continue
		}
		if c.Keys[0].Passphrase.IsSet() == tc.theirs {
			t.Errorf("%s: the key's passphrase is set: %v", named, !tc.theirs)
		}
		if got := config.WithoutSecrets(c, environ); slices.Contains(got, application) != tc.theirs {
			t.Errorf("%s: CMD has %q", named, got)
		}
	}
	once := new(config.OnceConfig)
	if err := loadInto(t, once, nil, "SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_PASSPHRASE_PARAMETER=/p", application); err != nil || !config.IsSecret(once, "PRIVATE_KEY_PASSPHRASE") {
		t.Errorf("once, which has no CMD: error %v", err)
	}
}

// Only exec has a CMD to leave it to.
func TestSecretKey_IsASecretOfEveryOtherCommand(t *testing.T) {
	c, err := load(t, nil, "SNOWKEY_KEY_PARAMETER=/k", "SECRET_KEY=hunter2")
	if err != nil || !config.IsSecret(c, "SECRET_KEY") || !config.IsSecret(c, "SNOWKEY_SECRET_KEY") || config.IsSecret(c, "SNOWKEY_KEY_PARAMETER") {
		t.Errorf("error %v", err)
	}
}

func TestSecretKey_ApplicationsSecretIsAUsageError(t *testing.T) {
	long := strings.Repeat("hunter2hunter2_", 80)
	for application, written := range map[string]string{
		"Django, startproject":     "django-insecure-x1y2z3&(hunter2$+9=%w",
		"Flask, secrets.token_hex": "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
		"Rails, 128 digits":        strings.Repeat("192b9bdd22ab9ed4", 8),
		"Rails, all digits":        strings.Repeat("3012", 32),
		"a default":                "changeme",
		"begins like JSON":         "{x9!hunter2",
		"begins like a template":   "{%hunter2",
		"begins like DER, base64":  "MDhunter2hunter2hunter2==",
		"the same, without =":      "MAhunter2hunter2hunter2",
		"begins like an EC key":    "MHcCAQEEIAhunter2",
		"base64 of 48 bytes":       "LvyKQLbGb8Wq0nvS1s7Vh5rXQm1Hf3c2m8uWz1Ff0mTQhJc1s9eP4xk2bR7gYd5L",
		"1200 letters":             long,
		"1200 letters and signs":   long + "&$*",
		"1200 letters, as DER":     "MA" + long,
		"prose":                    strings.Repeat("hunter2 ", 200),
	} {
		_, err := load(t, nil, "SECRET_KEY="+written)
		if err == nil {
			t.Errorf("%s: taken for a key", application)
			continue
		}
		for _, want := range []string{"SECRET_KEY is taken for the key's text", "--key-parameter", "SNOWKEY_SECRET_KEY", "left alone"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q lacks %q", application, err, want)
			}
		}
		if strings.Contains(err.Error(), written) {
			t.Errorf("error %q repeats the value", err)
		}
		if _, err := load(t, nil, "SNOWKEY_SECRET_KEY="+written); err != nil { // nobody else's
			t.Errorf("%s in SNOWKEY_SECRET_KEY: error %v", application, err)
		}
	}
}

// The reader of keys says better what these are, or what of them is missing.
func TestSecretKey_KnownFormIsLeftToTheReaderOfKeys(t *testing.T) {
	encrypted := testkey.Encrypted(testkey.Key(0), "hunter2")
	body := strings.ReplaceAll(strings.Join(strings.Split(encrypted, "\n")[1:20], "\n"), "\n", "")
	for form, written := range map[string]string{
		"a key":                        encrypted,
		"its first line":               pemBeginning,
		"a key, truncated":             encrypted[:400],
		"its base64 alone, truncated":  body[:200],
		"a key, quoted":                `"` + strings.ReplaceAll(encrypted, "\n", `\n`) + `"`,
		"a key with a letter replaced": strings.Replace(encrypted, "MII", "M*I", 1),
		"base64 of a key":              base64.StdEncoding.EncodeToString([]byte(encrypted)),
		"a managed secret":             `{"privateKey":"` + body + `"}`,
		"a managed secret, cut":        `{"privateKey":"` + strings.ReplaceAll(encrypted, "\n", `\n`),
		"JSON of other fields":         ` {"key":"hunter2"}`,
		"a certificate":                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		"ARN, for valueFrom":           "arn:aws:ssm:us-east-1:123456789012:parameter/app/key",
		"a path":                       "/app/key",
		"a file":                       "rsa_key.p8",
		"an address":                   "file://rsa_key.p8",
		"a template, not filled in":    "{{ private_key }}",
		"a variable, not filled in":    "${PRIVATE_KEY}",
		"null":                         "null",
		"spreadsheet":                  "#NAME?",
		"KMS":                          "AQICAHhunter2",
		"PuTTY":                        "PuTTY-User-Key-File-3: ssh-rsa",
		"white space":                  " \n",
	} {
		if _, err := load(t, nil, "SECRET_KEY="+written); err != nil {
			t.Errorf("%s: error %v", form, err)
		}
	}
}
