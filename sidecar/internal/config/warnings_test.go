package config_test

import (
	"slices"
	"testing"
)

// A key is whose parameter it is, however the parameter is written.
func TestKeySettings_WarnsOfSharedParameters(t *testing.T) {
	const (
		arn       = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
		elsewhere = "arn:aws:ssm:us-east-1:210987654321:parameter/app/key"
		secret    = "/aws/reference/secretsmanager/app"
		secretARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf"

		keepOne = "; keep one of them: every reader can read the same directory; or correct key-parameter="
		apart   = "; store a key for each user in a parameter of its own: rotate for one user replaces the key of the other"
	)
	for name, tc := range map[string]struct {
		keys string
		want []string
	}{
		"apart": {"name=a,key-parameter=/a,user=A\nname=b,key-parameter=/b,user=B", nil},
		"one passphrase for both": {
			"name=a,key-parameter=/a,passphrase-parameter=/p\nname=b,key-parameter=/b,passphrase-parameter=/p", nil,
		},
		"accounts apart": {"name=a,key-parameter=" + arn + "\nname=b,key-parameter=" + elsewhere, nil},
		"one name": {
			"name=a,key-parameter=/app/key\nname=b,key-parameter=/app/key",
			[]string{"the keys a and b are of one parameter, /app/key" + keepOne},
		},
		"two versions": {
			"name=a,key-parameter=/app/key:1\nname=b,key-parameter=/app/key:prod",
			[]string{"the keys a and b are of one parameter, /app/key:1 and /app/key:prod" + keepOne},
		},
		"a name and an ARN": {
			"name=a,key-parameter=/app/key\nname=b,key-parameter=" + arn,
			[]string{"the keys a and b are of one parameter, /app/key and " + arn + " (if the ARN is of this account)" + keepOne},
		},
		"an ARN and its version": {
			"name=a,key-parameter=" + arn + "\nname=b,key-parameter=" + arn + ":3",
			[]string{"the keys a and b are of one parameter, " + arn + " and " + arn + ":3" + keepOne},
		},
		"a secret by name and by ARN": {
			"name=a,key-parameter=" + secret + "\nname=b,key-parameter=" + secretARN,
			[]string{"the keys a and b are of one parameter, " + secret + " and " + secretARN + " (if the ARN is of this account)" + keepOne},
		},
		"two users": {
			"name=a,key-parameter=/app/key,user=ETL\nname=b,key-parameter=/app/key,user=REPORT",
			[]string{"the keys a and b are of one parameter, /app/key, for the users ETL and REPORT" + apart},
		},
		"two users, one from the environment": {
			"name=a,key-parameter=/app/key\nname=b,key-parameter=/app/key,user=REPORT",
			[]string{"the keys a and b are of one parameter, /app/key, for the users SVC and REPORT" + apart},
		},
		"one user in two spellings": {
			"name=a,key-parameter=/app/key,user=svc\nname=b,key-parameter=/app/key",
			[]string{"the keys a and b are of one parameter, /app/key" + keepOne},
		},
		"three": {
			"name=a,key-parameter=/app/key\nname=b,key-parameter=/b\nname=c,key-parameter=/app/key\nname=d,key-parameter=/app/key",
			[]string{"the keys a, c and d are of one parameter, /app/key" + keepOne},
		},
		"a key as a passphrase": {
			"name=a,key-parameter=/a,passphrase-parameter=/b:1\nname=b,key-parameter=/b",
			[]string{"the passphrase of key a is read from the parameter of key b, /b:1; correct passphrase-parameter= of key a: a key is no passphrase"},
		},
	} {
		c, err := load(t, nil, "SNOWKEY_KEYS="+tc.keys, "SNOWFLAKE_USER=SVC")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, w := range c.Warnings() {
			got = append(got, w.String())
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s:\n%q, want\n%q", name, got, tc.want)
		}
	}
	if c, err := load(t, nil, "SECRET_KEY="+pemBeginning); err != nil || c.Warnings() != nil {
		t.Errorf("one key: %v, %v", c.Warnings(), err)
	}
}
