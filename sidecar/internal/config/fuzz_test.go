package config_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// FuzzLoad gives the settings an environment, an entry a line.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"SNOWKEY_KEY_PARAMETER=/app/key\nSNOWKEY_INTERVAL=1m\nSNOWFLAKE_PORT=443",
		"SNOWKEY_KEYS=name=a,key-parameter=/a",
		`SNOWKEY_KEYS="name=a,key-parameter=/a\\nname=b,key-parameter=/b;#"`,
		"SNOWKEY_FILE_MODE=0400\nSNOWKEY_FORMATS=der,b64\nSNOWKEY_ON_CHANGE=SIGHUP",
		"SNOWKEY_KEY_PARAMETER=arn:aws:ssm:us-east-1:123456789012:parameter/app/key:prod",
		"SNOWKEY_KEY_PARAMETER=/aws/reference/secretsmanager/app:AWSCURRENT\nSNOWKEY_METRICS_ADDR=:9090",
		"SNOWKEY_=\n=\nSNOWKEY_INTERVALL=5m\n\x00",
	} {
		f.Add(seed)
	}
	const secret = "q7Zp3vXw"
	f.Fuzz(func(t *testing.T, lines string) {
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		var c config.ExecConfig
		config.AddFlags(flags, &c)
		environ := append(strings.Split(lines, "\n"), "PRIVATE_KEY_PASSPHRASE="+secret, "SECRET_KEY="+secret)
		if err := config.Load(&c, flags, environ); err != nil {
			if strings.Contains(err.Error(), secret) && !strings.Contains(lines, secret) {
				t.Fatalf("a secret is in the error: %v", err)
			}
			return
		}
		if c.Interval <= 0 || c.Dir == "" || len(c.Formats) == 0 || c.FileMode&0o222 != 0 {
			t.Fatalf("accepted: %+v", c)
		}
	})
}

// FuzzKeys gives the settings several keys, and a field that is none, which may hold a secret.
func FuzzKeys(f *testing.F) {
	const one, other = "name=a,key-parameter=/a,user=CORP\\nina", "name=b,key-parameter=/b,account=https://org-acct.snowflakecomputing.com,role=\"Loader\""
	for _, between := range []string{"\n", "\r\n", ";", `\n`, `\\r\\n`, ";# comment\n"} {
		f.Add(one + between + other)
	}
	const secret = "q7Zp3vXw"
	f.Fuzz(func(t *testing.T, written string) {
		load := func(written string) (config.OnceConfig, error) {
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			var c config.OnceConfig
			config.AddFlags(flags, &c)
			return c, config.Load(&c, flags, []string{"SNOWKEY_KEYS=" + written})
		}
		c, err := load(written)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, k := range c.Keys {
			if k.Name == "" || strings.ContainsAny(k.Name, "/.") || names[strings.ToLower(k.Name)] || k.KeyParameter == "" {
				t.Fatalf("accepted: %+v", k)
			}
			names[strings.ToLower(k.Name)] = true
		}
		if _, err := load(written + "\nname=z,passphrase=" + secret); err == nil || strings.Contains(err.Error(), secret) && !strings.Contains(written, secret) {
			t.Fatalf("error %v", err)
		}
	})
}
