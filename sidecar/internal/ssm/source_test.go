package ssm

import (
	"testing"
)

func TestSource_SaysWhatAWSSays(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "KEY")
		aws.label("/key", "prod", 1)
		arn := func(account string) string {
			return "arn:aws:ssm:us-east-1:" + account + ":parameter" + aws.name("/key")
		}
		for written, want := range map[string]struct{ before, after string }{
			aws.name("/key"):              {arn(""), arn("123456789012")},
			aws.name("/key") + ":prod":    {arn("") + ":prod", arn("123456789012") + ":prod"},
			arn("123456789012"):           {arn("123456789012"), arn("123456789012")},
			arn("123456789012") + ":prod": {arn("123456789012") + ":prod", arn("123456789012") + ":prod"},
		} {
			r := aws.source(written, "")
			if got := r.keys[0].Source().String(); got != want.before {
				t.Errorf("%s, not asked yet: source %s, want %s", written, got, want.before)
			}
			fetch(t, r, Revision{})
			if got := r.keys[0].Source().String(); got != want.after {
				t.Errorf("%s: source %s, want %s", written, got, want.after)
			}
		}
	})
}

func TestSource_OfASecretHasItsSuffix(t *testing.T) {
	aws, server := local(t)
	server.PutSecret("app/key", "SECRET")
	r := aws.source(secretsManagerPrefix+"app/key", "")
	before := r.keys[0].Source()
	fetch(t, r, Revision{})
	after := r.keys[0].Source()
	if !before.Matches(after.String()) || before == after || !after.Known() || len(after.String()) != len(before.String())+len("123456789012")+len(secretSuffix) {
		t.Errorf("before %s, after %s", before, after)
	}
}

func TestSource_Matches(t *testing.T) {
	source := func(written, region string) Source {
		n, err := ParseName(written)
		if err != nil {
			t.Fatal(err)
		}
		return n.source(region)
	}
	const of1 = "arn:aws:ssm:eu-west-1:111111111111:parameter/app/key"
	for _, tc := range []struct {
		source  Source
		written string
		want    bool
	}{
		{source("/app/key", "eu-west-1"), of1, true}, // of any account, as long as it is not known which
		{source("/app/key", "eu-west-1").answered(of1), of1, true},
		{source("/app/key", "eu-west-1").answered(of1), "arn:aws:ssm:eu-west-1:222222222222:parameter/app/key", false},
		{source(of1, "eu-west-1"), of1, true},
		{source(of1, "eu-west-1"), "arn:aws:ssm:eu-west-1:222222222222:parameter/app/key", false},
		{source("/app/key", "us-east-1"), of1, false},
		{source("/app/key", "cn-north-1"), "arn:aws:ssm:cn-north-1:111111111111:parameter/app/key", false},
		{source("/app/key", "cn-north-1"), "arn:aws-cn:ssm:cn-north-1:111111111111:parameter/app/key", true},
		{source("/app/key:prod", "eu-west-1"), of1, false},
		{source("/app/key", "eu-west-1"), of1 + ":prod", false},
		{source("/app/key:prod", "eu-west-1"), of1 + ":prod", true},
		{source("/app/other", "eu-west-1"), of1, false},
		{source("/app/key", "eu-west-1"), "/app/key", false},
		{source("/app/key", "eu-west-1"), "", false},
		{source("key", "eu-west-1"), "arn:aws:ssm:eu-west-1:111111111111:parameter/key", true},
		{source("/aws/reference/secretsmanager/app", "eu-west-1"), "arn:aws:secretsmanager:eu-west-1:111111111111:secret:app-AbCdEf", true},
		{source("/aws/reference/secretsmanager/app", "eu-west-1"), "arn:aws:secretsmanager:eu-west-1:111111111111:secret:app2-AbCdEf", false},
		{source("/aws/reference/secretsmanager/app", "eu-west-1"), "arn:aws:ssm:eu-west-1:111111111111:parameter/app", false},
		{source("arn:aws:secretsmanager:eu-west-1:111111111111:secret:app-AbCdEf", "eu-west-1"), "arn:aws:secretsmanager:eu-west-1:111111111111:secret:app-AbCdEf", true},
		{source("arn:aws:secretsmanager:eu-west-1:111111111111:secret:app-AbCdEf", "eu-west-1"), "arn:aws:secretsmanager:eu-west-1:111111111111:secret:app-XXXXXX", false},
		{FromSecretKey("SHA256:a"), "SECRET_KEY SHA256:a", true},
		{FromSecretKey("SHA256:a"), "SECRET_KEY SHA256:b", false},
		{FromSecretKey("SHA256:a"), "SECRET_KEY", false},
		{Source{}, "", false},
		{Source{}, of1, false},
	} {
		if got := tc.source.Matches(tc.written); got != tc.want {
			t.Errorf("%s matches %q: %v", tc.source, tc.written, got)
		}
	}
}
