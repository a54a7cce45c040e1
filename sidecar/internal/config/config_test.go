package config_test

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
)

var update = flag.Bool("update", false, "write the settings table into the documentation")

// load reads the settings of run.
func load(t *testing.T, args []string, environ ...string) (*config.RunConfig, error) {
	t.Helper()
	c := new(config.RunConfig)
	return c, loadInto(t, c, args, environ...)
}

func loadInto(t *testing.T, c config.Config, args []string, environ ...string) error {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, c)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return config.Load(c, flags, environ)
}

func TestLoad_Defaults(t *testing.T) {
	c, err := load(t, []string{"--key-parameter", "/k"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir != "/run/snowflake" || len(c.Formats) != 2 || c.FileMode != 0o440 || c.Interval != 5*time.Minute ||
		c.RequireTmpfs || c.Verify || c.MetricsAddr != "" || c.Keys[0].Passphrase.IsSet() {
		t.Errorf("%+v", c)
	}
}

func TestLoad_FlagBeforeVariableBeforeDefault(t *testing.T) {
	c, err := load(t, []string{"--interval=1m", "--require-tmpfs"},
		"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_INTERVAL=2m", "SNOWKEY_DIR=/d/", "SNOWKEY_METRICS_ADDR=:9090")
	if err != nil {
		t.Fatal(err)
	}
	if c.Interval != time.Minute || c.Dir != "/d" || !c.RequireTmpfs || c.Keys[0].KeyParameter != "/k" || c.MetricsAddr != "127.0.0.1:9090" {
		t.Errorf("%+v", c)
	}
}

func TestLoad_FlagWinsOverInvalidVariable(t *testing.T) {
	if _, err := load(t, []string{"--key-parameter=/k", "--interval=1m"}, "SNOWKEY_INTERVAL=soon"); err != nil {
		t.Error(err)
	}
}

func TestLoad_InvalidValueIsNeverTheDefault(t *testing.T) {
	for _, tc := range []struct{ setting, want string }{
		{"SNOWKEY_INTERVAL=", "duration"},
		{"SNOWKEY_INTERVAL=5", "unit"},
		{"SNOWKEY_INTERVAL=-5m", "shortest"},
		{"SNOWKEY_INTERVAL=10ms", "shortest"},
		{"SNOWKEY_FILE_MODE=rw", "octal"},
		{"SNOWKEY_FILE_MODE=0666", "no user writes it"},
		{"SNOWKEY_FILE_MODE=0040", "its owner reads"},
		{"SNOWKEY_FORMATS=der,pkcs12", "pkcs12"},
		{"SNOWKEY_FORMATS=", "use one of der, "},
		{"SNOWKEY_FORMATS=der,p12", `no such format "p12": use one of der, `},
		{"SNOWKEY_DIR=", "directory"},
		{"SNOWKEY_REQUIRE_TMPFS=yep", "true or false"},
		{"SNOWKEY_METRICS_ADDR=9090", "HOST:PORT"},
		{"SNOWKEY_METRICS_ADDR=:99999", "65535"},
		{"SNOWKEY_PASSPHRASE_PARAMETER=a b", "letters"},
		{"SNOWFLAKE_PORT=x", "number"},
		{`SNOWFLAKE_PORT="443`, "number"},
		{"SNOWFLAKE_PORT=0", "number"},
		{"SNOWFLAKE_PROTOCOL=https'", "https or http"},
		{"SNOWKEY_SECRET_KEY=", "unset it"},
		{"SNOWFLAKE_PROTOCOL=ftp", "https or http"},
	} {
		_, err := load(t, []string{"--key-parameter=/k"}, tc.setting)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v lacks %q", tc.setting, err, tc.want)
			continue
		}
		if name, _, _ := strings.Cut(tc.setting, "="); !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", tc.setting, err)
		}
	}
}

func TestLoad_UnknownVariableNamesTheNearest(t *testing.T) {
	_, err := load(t, []string{"--key-parameter=/k"}, "SNOWKEY_INTERVALL=5m", "SNOWKEY_KEYPARAMETER=/k",
		"SNOWKEY_KEY=name=a", "SNOWKEY_PASSPHRASE=x", "SNOWFLAKE_ANYTHING=x")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"4 settings", "SNOWKEY_INTERVALL: no such setting; did you mean SNOWKEY_INTERVAL?",
		"SNOWKEY_KEYPARAMETER: no such setting; did you mean SNOWKEY_KEY_PARAMETER?",
		"SNOWKEY_KEY: no such setting; did you mean SNOWKEY_KEYS?",
		"SNOWKEY_PASSPHRASE: no such setting; did you mean PRIVATE_KEY_PASSPHRASE?",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestRunConfig_ReportsContradictions(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		want    string
	}{
		"no key":                     {nil, "--key-parameter"},
		"two keys":                   {[]string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_SECRET_KEY=x"}, "keep one"},
		"key and passphrase are one": {[]string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_PASSPHRASE_PARAMETER=/k"}, "the same"},
		"key and passphrase are one, by name and by ARN": {
			[]string{"SNOWKEY_KEY_PARAMETER=arn:aws:ssm:us-east-1:123456789012:parameter/k", "SNOWKEY_PASSPHRASE_PARAMETER=/k"}, "the same",
		},
		"key here, passphrase there": {[]string{"SECRET_KEY=x", "SNOWKEY_PASSPHRASE_PARAMETER=/p"}, "PRIVATE_KEY_PASSPHRASE"},
		"verify as nobody":           {[]string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_VERIFY=true"}, "SNOWFLAKE_ACCOUNT"},
	} {
		if _, err := load(t, nil, tc.environ...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v lacks %q", name, err, tc.want)
		}
	}
}

func TestKeySettings_SeveralKeys(t *testing.T) {
	lines := "# ours\n\n name=etl, key-parameter=/etl/key,passphrase-parameter=/pass ,user=ETL,role=LOADER \r\nname=report,key-parameter=/report/key,account=OTHER\n"
	for from, load := range map[string]func() (*config.RunConfig, error){
		"the variable": func() (*config.RunConfig, error) {
			return load(t, nil, "SNOWKEY_KEYS="+lines, "SNOWFLAKE_USER=SVC", "SNOWFLAKE_ACCOUNT=ACME", "SNOWFLAKE_PORT=1")
		},
		"flags": func() (*config.RunConfig, error) {
			args := []string{"--key=name=etl,key-parameter=/etl/key,passphrase-parameter=/pass,user=ETL,role=LOADER", "--key", "name=report,key-parameter=/report/key,account=OTHER"}
			return load(t, args, "SNOWKEY_KEYS=none of it", "SNOWFLAKE_USER=SVC", "SNOWFLAKE_ACCOUNT=ACME", "SNOWFLAKE_PORT=1")
		},
	} {
		c, err := load()
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		want := []config.Key{
			{Name: "etl", Dir: "/run/snowflake/etl", KeyParameter: "/etl/key", PassphraseParameter: "/pass",
				Snowflake: config.Snowflake{Account: "ACME", User: "ETL", Role: "LOADER", Port: 1, KeyName: "etl"}},
			{Name: "report", Dir: "/run/snowflake/report", KeyParameter: "/report/key",
				Snowflake: config.Snowflake{Account: "OTHER", User: "SVC", Port: 1, KeyName: "report"}},
		}
		if !reflect.DeepEqual(c.Keys, want) {
			t.Errorf("%s: %+v", from, c.Keys)
		}
	}
	c, err := load(t, nil, "SECRET_KEY="+pemBeginning, "SNOWFLAKE_USER=SVC")
	if err != nil || len(c.Keys) != 1 || c.Keys[0].Name != "" || c.Keys[0].Dir != c.Dir || c.Keys[0].Source() != "SECRET_KEY" || c.Keys[0].Snowflake.User != "SVC" {
		t.Errorf("the only key: %+v, %v", c, err)
	}
}

func TestSnowflake_IsReadAsItIsWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		want    config.Snowflake
	}{
		"plain":           {[]string{"SNOWFLAKE_ACCOUNT=MyOrg-Acct", "SNOWFLAKE_USER=svc"}, config.Snowflake{Account: "MyOrg-Acct", User: "svc"}},
		"a URL":           {[]string{"SNOWFLAKE_ACCOUNT=https://myorg-acct.snowflakecomputing.com/"}, config.Snowflake{Account: "myorg-acct", OtherForm: "https://myorg-acct.snowflakecomputing.com/"}},
		"an env file":     {[]string{"SNOWFLAKE_ACCOUNT='myorg-acct'\r", "SNOWFLAKE_USER='svc'\r", "SNOWFLAKE_PORT=8443\r", "SNOWFLAKE_PROTOCOL=HTTPS\r"}, config.Snowflake{Account: "myorg-acct", User: "svc", Port: 8443, Protocol: "https", OtherForm: "'myorg-acct'\r"}},
		"only a host":     {[]string{"SNOWFLAKE_HOST=xy12345.us-east-1.snowflakecomputing.com"}, config.Snowflake{Account: "xy12345.us-east-1", Host: "xy12345.us-east-1.snowflakecomputing.com"}},
		"a host with _":   {[]string{"SNOWFLAKE_HOST=myorg-my_acct.snowflakecomputing.com"}, config.Snowflake{Account: "myorg-my_acct", Host: "myorg-my-acct.snowflakecomputing.com"}},
		"another host":    {[]string{"SNOWFLAKE_HOST=https://proxy.example:8443/"}, config.Snowflake{Host: "proxy.example", Port: 8443}},
		"roles":           {[]string{"SNOWFLAKE_ROLE=loader"}, config.Snowflake{Role: "LOADER"}},
		"exact roles":     {[]string{`SNOWFLAKE_ROLE="loader"`}, config.Snowflake{Role: "loader"}},
		"nothing":         {[]string{"SNOWFLAKE_ACCOUNT=", "SNOWFLAKE_USER=", "SNOWFLAKE_HOST=", "SNOWFLAKE_ROLE=", "SNOWFLAKE_PORT=", "SNOWFLAKE_PROTOCOL="}, config.Snowflake{}},
		"nothing, quoted": {[]string{`SNOWFLAKE_PORT=""`, "SNOWFLAKE_PROTOCOL=''\r"}, config.Snowflake{}},
		"a quoted port":   {[]string{"SNOWFLAKE_HOST=proxy.example:8443", `SNOWFLAKE_PORT=""`}, config.Snowflake{Host: "proxy.example", Port: 8443}},
		"its own port":    {[]string{"SNOWFLAKE_HOST=myorg-acct.snowflakecomputing.com:8443"}, config.Snowflake{Account: "myorg-acct", Host: "myorg-acct.snowflakecomputing.com", Port: 8443}},
		"Snowsight's":     {[]string{"SNOWFLAKE_HOST=https://app.snowflake.com/myorg/acct/"}, config.Snowflake{Account: "", Host: "myorg-acct.snowflakecomputing.com"}},
		"a host's port":   {[]string{"SNOWFLAKE_HOST=proxy.example:8443", "SNOWFLAKE_PORT="}, config.Snowflake{Host: "proxy.example", Port: 8443}},
	} {
		c, err := load(t, nil, append(tc.environ, "SNOWKEY_KEY_PARAMETER=/k")...)
		if err != nil || c.Keys[0].Snowflake != tc.want {
			t.Errorf("%s: %+v, error %v", name, c, err)
		}
	}
}

// What is set and invalid is not missing, too.
func TestLoad_InvalidLoginIsOneError(t *testing.T) {
	const key, account, user = "SNOWKEY_KEY_PARAMETER=/k", "SNOWFLAKE_ACCOUNT=myorg-acct", "SNOWFLAKE_USER=svc"
	for _, tc := range []struct{ wrong, beside, says string }{
		{"SNOWFLAKE_ACCOUNT=my org", user, "write the account's identifier"},
		{"SNOWFLAKE_ACCOUNT=https://example.com", user, "outside of snowflakecomputing.com"},
		{"SNOWFLAKE_USER=a\nb", account, "LOGIN_NAME"},
		{"SNOWFLAKE_HOST=myorg-acct.snowflakecomputing.com:x", user, "not a port"},
		{"SNOWFLAKE_HOST=http://localhost:8080", user + "\x00SNOWFLAKE_PROTOCOL=http", "set the protocol"},
	} {
		for command, c := range map[string]config.Config{"once": new(config.OnceConfig), "rotate": new(config.RotateConfig)} {
			environ := append([]string{key, tc.wrong}, strings.Split(tc.beside, "\x00")...)
			if command == "once" {
				environ = append(environ, "SNOWKEY_VERIFY=true")
			}
			err := loadInto(t, c, nil, environ...)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "settings are wrong") {
				t.Errorf("%s with %s: error %v", command, tc.wrong, err)
			}
		}
	}
	err := loadInto(t, new(config.RotateConfig), nil, key, "SNOWFLAKE_ACCOUNT=my org")
	if err == nil || !strings.Contains(err.Error(), "set SNOWFLAKE_USER") {
		t.Errorf("error %v without a user", err)
	}
}

// Without --connections nothing uses these variables, which may be the application's.
func TestKeySettings_LeavesNamesForConnectionsAloneWithoutThem(t *testing.T) {
	for _, variable := range []string{"SNOWFLAKE_WAREHOUSE", "SNOWFLAKE_DATABASE", "SNOWFLAKE_SCHEMA"} {
		environ := []string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWFLAKE_ACCOUNT=a", "SNOWFLAKE_USER=u", variable + `=""`}
		if _, err := load(t, nil, environ...); err != nil {
			t.Errorf("%s: %v", variable, err)
		}
		if _, err := load(t, []string{"--connections"}, environ...); err == nil || !strings.Contains(err.Error(), variable+": write a name") {
			t.Errorf("%s with --connections: %v", variable, err)
		}
	}
}

func TestKeySettings_RefusesInvalidKeys(t *testing.T) {
	const etl = "name=etl,key-parameter=/etl/key"
	for written, want := range map[string]string{
		"hunter2":                              "key 1: write name=NAME",
		"name=etl,passphrase=hunter2":          "key 1: write name=NAME",
		"name=etl":                             "no key-parameter=",
		"key-parameter=/etl/key":               "name= is a name",
		"name=../etl,key-parameter=/k":         "name= is a name",
		"name=rsa_key.der,key-parameter=/k":    "name= is a name",
		"name=" + strings.Repeat("a", 64):      "name= is a name",
		"name=a,key-parameter=hunter2 /x":      "key-parameter=: a parameter's name",
		etl + ",user=":                         "user= has no value",
		etl + ",name=etl":                      "name= is there twice",
		etl + ",passphrase-parameter=/etl/key": "are the same",
		etl + "\n# x\n" + etl:                  "key 2: there is a key named etl",
		etl + "\nname=ETL,key-parameter=/x":    "key 2: there is a key named ETL",
	} {
		_, err := load(t, nil, "SNOWKEY_KEYS="+written)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "SNOWKEY_KEYS") {
			t.Errorf("%s: error %v lacks %q", written, err, want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v repeats what may be a secret", written, err)
		}
		if strings.Contains(err.Error(), "no key:") {
			t.Errorf("%s: error %v, and there is one", written, err)
		}
	}
	for _, beside := range []string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_PASSPHRASE_PARAMETER=/k", "SNOWKEY_SECRET_KEY=x"} {
		if _, err := load(t, nil, "SNOWKEY_KEYS="+etl, beside); err == nil || !strings.Contains(err.Error(), "--key (SNOWKEY_KEYS) stands alone") {
			t.Errorf("%s beside keys: error %v", beside, err)
		}
	}
	if _, err := load(t, nil, "SNOWKEY_KEYS=# none\n"); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("error %v without a key", err)
	}
	if _, err := load(t, []string{"--verify"}, "SNOWKEY_KEYS="+etl+",user=x"); err == nil || !strings.Contains(err.Error(), "account= and user= of key etl") {
		t.Errorf("error %v", err)
	}
}

func TestLoad_NoErrorRepeatsASecret(t *testing.T) {
	_, err := load(t, nil, "SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_SECRET_KEY=hunter2", "SECRET_KEY=hunter2", "PRIVATE_KEY_PASSPHRASE=hunter2", "SNOWKEY_PASSPHRASE_PARAMETER=/p")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

func TestLoad_LongestNames(t *testing.T) {
	for written, fits := range map[string]bool{
		"SNOWKEY_KEYS=key-parameter=/k,name=" + strings.Repeat("a", 63): true,
		"SNOWKEY_KEYS=key-parameter=/k,name=" + strings.Repeat("a", 64): false,
		"SNOWKEY_EMF=" + strings.Repeat("a", 255):                       true,
		"SNOWKEY_EMF=" + strings.Repeat("a", 256):                       false,
	} {
		environ := []string{written}
		if strings.HasPrefix(written, "SNOWKEY_EMF") {
			environ = append(environ, "SNOWKEY_KEY_PARAMETER=/k")
		}
		if _, err := load(t, nil, environ...); (err == nil) != fits {
			t.Errorf("%s: %v", written, err)
		}
	}
}

// A command has the flags of its own type and no others: no setting of one command makes another.
func TestAddFlags_OnlyTheCommandsOwn(t *testing.T) {
	for command, tc := range map[string]struct {
		config      config.Config
		has, hasNot string
	}{
		"run":         {new(config.RunConfig), "key metrics-addr interval verify", "on-change json put grace bits"},
		"once":        {new(config.OnceConfig), "key verify require-tmpfs", "interval metrics-addr emf on-change"},
		"exec":        {new(config.ExecConfig), "key metrics-addr on-change stop-timeout start-timeout", "json put grace"},
		"healthcheck": {new(config.HealthcheckConfig), "dir", "formats key interval key-parameter require-tmpfs"},
		"doctor":      {new(config.DoctorConfig), "key interval json require-tmpfs", "verify metrics-addr put"},
		"keygen":      {new(config.KeygenConfig), "put key-parameter bits tag", "key dir interval grace"},
		"rotate":      {new(config.RotateConfig), "grace key-parameter bits interval", "put key dir overwrite"},
	} {
		flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
		config.AddFlags(flags, tc.config)
		for _, name := range strings.Fields(tc.has) {
			if flags.Lookup(name) == nil {
				t.Errorf("%s lacks --%s", command, name)
			}
		}
		for _, name := range strings.Fields(tc.hasNot) {
			if flags.Lookup(name) != nil {
				t.Errorf("%s has --%s", command, name)
			}
		}
	}
}

func TestKeygenConfig_ReportsContradictions(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nothing to store in":    {[]string{"--put"}, "name --key-parameter and --passphrase-parameter"},
		"one parameter for both": {[]string{"--put", "--key-parameter=/k", "--passphrase-parameter=/k"}, "are the same"},
		"one parameter for both, by name and by ARN": {
			[]string{"--put", "--key-parameter=/k", "--passphrase-parameter=arn:aws:ssm:us-east-1:123456789012:parameter/k"}, "are the same",
		},
		"a version to write": {[]string{"--put", "--key-parameter=/k:1", "--passphrase-parameter=/p"}, "--key-parameter"},
		"a label to write":   {[]string{"--put", "--key-parameter=/k", "--passphrase-parameter=/p:prod"}, "--passphrase-parameter"},
		"no --put":           {[]string{"--overwrite"}, "go with --put"},
	} {
		if err := loadInto(t, new(config.KeygenConfig), tc.args); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v lacks %q", name, err, tc.want)
		}
	}
}

var rotateLogin = []string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWFLAKE_ACCOUNT=a", "SNOWFLAKE_USER=u"}

func TestRotateConfig_Grace(t *testing.T) {
	for written, want := range map[string]config.RotateConfig{
		"": {GraceAuto: true}, "auto": {GraceAuto: true}, "0s": {}, "1h": {Grace: time.Hour},
	} {
		environ := slices.Clone(rotateLogin)
		if written != "" {
			environ = append(environ, "SNOWKEY_GRACE="+written)
		}
		var c config.RotateConfig
		if err := loadInto(t, &c, nil, environ...); err != nil || c.Grace != want.Grace || c.GraceAuto != want.GraceAuto {
			t.Errorf("%q: %v, %v, %v, want %+v", written, c.Grace, c.GraceAuto, err, want)
		}
	}
	for _, missing := range []string{"SNOWKEY_KEY_PARAMETER=", "SNOWFLAKE_ACCOUNT=", "SNOWFLAKE_USER=", "SNOWKEY_SECRET_KEY=x"} {
		if err := loadInto(t, new(config.RotateConfig), nil, append(slices.Clone(rotateLogin), missing)...); err == nil {
			t.Errorf("accepted with %s", missing)
		}
	}
}

func TestRotateConfig_MaxAge(t *testing.T) {
	for written, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "0": 0} {
		var c config.RotateConfig
		if err := loadInto(t, &c, []string{"--max-age=" + written}, rotateLogin...); err != nil || c.MaxAge != want {
			t.Errorf("%s: %v, %v", written, c.MaxAge, err)
		}
	}
	for _, bad := range []string{"30", "d", "-1d", "1.5d", "a month"} {
		err := loadInto(t, new(config.RotateConfig), []string{"--max-age=" + bad}, rotateLogin...)
		if err == nil || !strings.Contains(err.Error(), "write an age with its unit, such as 30d or 12h") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
	err := loadInto(t, new(config.RotateConfig), []string{"--grace=2"}, rotateLogin...)
	if err == nil || !strings.Contains(err.Error(), "write auto, or a duration with its unit, such as 2h") {
		t.Errorf("--grace=2: error %v", err)
	}
}

func TestRotateConfig_ReportsContradictions(t *testing.T) {
	for _, args := range [][]string{
		{"--force-new", "--finish"}, {"--force-new", "--max-age=30d"}, {"--finish", "--max-age=30d"},
		{"--revoke-old"}, {"--revoke-old", "--max-age=30d"}, {"--revoke-old", "--dry-run"},
	} {
		if err := loadInto(t, new(config.RotateConfig), args, rotateLogin...); err == nil {
			t.Errorf("accepted %v", args)
		}
	}
	for _, with := range []string{"--finish", "--force-new"} {
		if err := loadInto(t, new(config.RotateConfig), []string{"--revoke-old", with}, rotateLogin...); err != nil {
			t.Errorf("--revoke-old %s: error %v", with, err)
		}
	}
}

func TestRotateConfig_NamesOnlyTheKeyThatItTakes(t *testing.T) {
	err := loadInto(t, new(config.RotateConfig), nil, rotateLogin[1:]...)
	if err == nil || !strings.Contains(err.Error(), "no key: name its parameter") || strings.Contains(err.Error(), "SECRET_KEY") {
		t.Errorf("error %v", err)
	}
}

func TestHelp_RotateListsOnlyWhatItTakes(t *testing.T) {
	help := config.Help(new(config.RotateConfig))
	for _, other := range []string{"SECRET_KEY", "doctor", "verify", "keygen", "managed secret"} {
		if strings.Contains(help, other) {
			t.Errorf("the help of rotate has %q:\n%s", other, help)
		}
	}
}

func TestHelp_KeygenListsOnlyWhatItTakes(t *testing.T) {
	help := config.Help(new(config.KeygenConfig))
	for _, other := range []string{"SECRET_KEY", ":VERSION", "Secrets Manager", "doctor", "--key "} {
		if strings.Contains(help, other) {
			t.Errorf("the help of keygen has %q:\n%s", other, help)
		}
	}
}

func TestHelp_OnceDoesNotListWhatItRefuses(t *testing.T) {
	if help := config.Help(new(config.OnceConfig)); strings.Contains(help, "--serve list") {
		t.Error(help)
	}
}

// Every setting has a topic, without which no help has it.
func TestHelp_HasEverySetting(t *testing.T) {
	for name, c := range map[string]config.Config{
		"run": new(config.RunConfig), "exec": new(config.ExecConfig), "healthcheck": new(config.HealthcheckConfig),
		"doctor": new(config.DoctorConfig), "keygen": new(config.KeygenConfig), "rotate": new(config.RotateConfig),
	} {
		help := config.Help(c)
		flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
		config.AddFlags(flags, c)
		flags.VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(help, "\n  --"+f.Name+" ") {
				t.Errorf("the help of %s lacks --%s", name, f.Name)
			}
		})
	}
}

func TestLoad_UnknownVariableSuggestsNothingFar(t *testing.T) {
	for name, want := range map[string]string{
		"SNOWKEY_KEY_PARAM": "did you mean SNOWKEY_KEY_PARAMETER?",
		"SNOWKEY_KEYPARAM":  "did you mean SNOWKEY_KEY_PARAMETER?",
		"SNOWKEY_DIRECTORY": "did you mean SNOWKEY_DIR?",
		"SNOWKEY_METRICS":   "did you mean SNOWKEY_METRICS_ADDR?",
		"SNOWKEY_INTREVAL":  "did you mean SNOWKEY_INTERVAL?",
		"SNOWKEY_HELP":      "unset it",
		"SNOWKEY_KEY_ARN":   "unset it",
		"SNOWKEY_":          "unset it",
	} {
		_, err := load(t, []string{"--key-parameter=/k"}, name+"=x")
		if err == nil || !strings.Contains(err.Error(), name+": no such setting; "+want) {
			t.Errorf("%s: error %v lacks %q", name, err, want)
		}
	}
}

func TestRunConfig_EMFMakesTheLogJSON(t *testing.T) {
	c, err := load(t, []string{"--key-parameter=/k", "--emf=app"})
	if err != nil || c.LogFormat != logwriter.JSON {
		t.Errorf("%v, %v", c.LogFormat, err)
	}
	if _, err := load(t, []string{"--key-parameter=/k", "--emf=app", "--log-format=text"}); err == nil || !strings.Contains(err.Error(), "--emf needs a log in JSON") {
		t.Errorf("text with --emf: %v", err)
	}
}

func TestHealthcheckConfig_NeedsOnlyItsOwnSettings(t *testing.T) {
	var c config.HealthcheckConfig
	err := loadInto(t, &c, nil, "SNOWKEY_DIR=/d", "SNOWKEY_INTERVAL=5m")
	if err != nil || c.Dir != "/d" {
		t.Errorf("%+v, %v", c, err)
	}
}

// essential are the flags that README.md has. docs/configuration.md has every setting.
var essential = []string{"key-parameter", "passphrase-parameter", "connections", "verify", "emf"}

// The documentation's tables are made here: go test ./sidecar/internal/config -update
func TestDocumentation_HasTheSettings(t *testing.T) {
	const reference = "../../../docs/configuration.md"
	hasSettings(t, "../../../README.md", "", essential...)
	for _, table := range config.Tables() {
		hasSettings(t, reference, table)
	}
}

func hasSettings(t *testing.T, path, command string, only ...string) {
	t.Helper()
	of := ""
	if command != "" {
		of = " of " + command
	}
	begin, end := "<!-- settings"+of+": made by go test ./sidecar/internal/config -update -->\n", "<!-- end of settings"+of+" -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the settings%s", path, of)
	}
	want := config.Markdown(command, only...)
	for _, flag := range only {
		if !strings.Contains(want, "| `--"+flag+"` |") {
			t.Errorf("there is no --%s for %s", flag, path)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("the settings%s in %s are not those of the program: run go test ./sidecar/internal/config -update", of, path)
	}
}
