package ssm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

func TestSource_IsWhatAWSSays(t *testing.T) {
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
	if !before.Matches(after.String()) || before == after || !after.Known() || len(after.String()) != len(before.String())+len("123456789012")+len("-123456") {
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

// An endpoint may answer under the right name and be wrong about the rest.
func TestReader_AnswerAboutAnotherParameterIsNotBelieved(t *testing.T) {
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
	for _, tc := range []struct{ written, name, arn string }{
		{"/app/key", "/app/key", "arn:aws:ssm:us-east-1:123456789012:parameter/app/other"},
		{"/app/key", "/app/key", "arn:aws:ssm:eu-west-1:123456789012:parameter/app/key"},
		{"/app/key", "/app/key", "arn:aws-cn:ssm:us-east-1:123456789012:parameter/app/key"},
		{"/app/key", "/app/key", "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key-AbCdEf"},
		{"/app/key", "/app/key", "nonsense"},
		{"/app/key", "/app/other", arn},
		{arn, "/app/key", "arn:aws:ssm:us-east-1:999999999999:parameter/app/key"},
		{arn, "/app/key", ""},
		{secretsManagerPrefix + "app", secretsManagerPrefix + "app", "arn:aws:secretsmanager:us-east-1:123456789012:secret:app2-AbCdEf"},
		{"arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf", secretsManagerPrefix + "app", "arn:aws:secretsmanager:us-east-1:999999999999:secret:app-AbCdEf"},
	} {
		hostile(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"Parameters":[{"Name":%q,"ARN":%q,"Value":"KEY","Version":1}]}`, tc.name, tc.arn)
		})
		r := newReading(t, Parameters{Key: tc.written})
		before := r.keys[0].Source()
		if err := failedFetch(t.Context(), r); failure.Class(err) != keyfile.ClassNotFound {
			t.Errorf("%s, answered as %s with %s: %v", tc.written, tc.name, tc.arn, err)
		}
		if after := r.keys[0].Source(); after != before {
			t.Errorf("%s, answered with %s: the source is %s", tc.written, tc.arn, after)
		}
	}
}

// A parameter without a / in its name has two spellings.
func TestReader_TakesEitherSpellingOfAName(t *testing.T) {
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/key"
	for _, written := range []string{"key", "/key", arn} {
		for _, answered := range []string{"key", "/key"} {
			hostile(t, func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"Parameters":[{"Name":%q,"ARN":%q,"Value":"KEY","Version":1}]}`, answered, arn)
			})
			r := newReading(t, Parameters{Key: written})
			want(t, fetch(t, r, Revision{}), "KEY", "", "1")
			if got := r.keys[0].Source().String(); got != arn {
				t.Errorf("%s, answered as %s: source %s", written, answered, got)
			}
		}
	}
}

func TestSource_IsCompletedByARefusal(t *testing.T) {
	aws, server := local(t)
	r := aws.source(aws.name("/key")+":prod", aws.name("/pass"))
	server.DenyParameter(aws.name("/pass"))
	if failedFetch(t.Context(), r); r.keys[0].Source().Known() {
		t.Errorf("source %s, of a refusal of the passphrase", r.keys[0].Source())
	}
	server.DenyParameter(aws.name("/key"))
	server.Allow(aws.name("/pass"))
	failedFetch(t.Context(), r)
	if got, want := r.keys[0].Source().String(), "arn:aws:ssm:us-east-1:123456789012:parameter"+aws.name("/key")+":prod"; got != want {
		t.Errorf("source %s, want %s", got, want)
	}
}

// A refusal of KMS does not say of which parameter; an answer without decryption does.
func TestSource_IsCompletedWhenKMSRefuses(t *testing.T) {
	aws, server := local(t)
	aws.put("/key", "key")
	server.DenyDecrypt(aws.name("/key"))
	r := aws.source(aws.name("/key"), "")
	failedFetch(t.Context(), r)
	if got, want := r.keys[0].Source().String(), "arn:aws:ssm:us-east-1:123456789012:parameter"+aws.name("/key"); got != want {
		t.Errorf("source %s, want %s", got, want)
	}
}

// The credentials have the account also while SSM is out of reach.
func TestSource_IsCompletedInAnOutage(t *testing.T) {
	aws, server := local(t)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(server.IssueCredentials("app", "task", time.Hour))
	}))
	defer role.Close()
	fromEndpoint(t, role.URL)
	r := aws.source(aws.name("/key"), "")
	server.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Code: "InternalServerError", Status: 500} })
	failedFetch(t.Context(), r)
	if !r.keys[0].Source().Known() {
		t.Errorf("source %s", r.keys[0].Source())
	}
}

// The credentials of a role have its account, if their endpoint says it.
func TestSource_IsCompletedByTheCredentials(t *testing.T) {
	aws, server := local(t)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(server.IssueCredentials("app", "task", time.Hour))
	}))
	defer role.Close()
	r := aws.source(aws.name("/none"), "")
	failedFetch(t.Context(), r)
	if r.keys[0].Source().Known() {
		t.Errorf("source %s, of a parameter that is missing", r.keys[0].Source())
	}
	t.Setenv("AWS_ACCOUNT_ID", "999999999999") // as a user has written it
	r = aws.source(aws.name("/none"), "")
	failedFetch(t.Context(), r)
	if r.keys[0].Source().Known() {
		t.Errorf("source %s, of AWS_ACCOUNT_ID", r.keys[0].Source())
	}
	fromEndpoint(t, role.URL)
	r = aws.source(aws.name("/none"), "")
	failedFetch(t.Context(), r)
	if got, want := r.keys[0].Source().String(), "arn:aws:ssm:us-east-1:123456789012:parameter"+aws.name("/none"); got != want {
		t.Errorf("source %s, want %s", got, want)
	}
}

func TestName_SameParameter(t *testing.T) {
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
	const secretARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key-AbCdEf"
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/app/key", "/app/key", true},
		{"/app/key:1", "/app/key:prod", true},
		{"/app/key:1", arn, true},
		{arn + ":3", arn, true},
		{"key", "/key", true}, // an ARN has the slash whether the name has it or not
		{"/app/key", "/app/key2", false},
		{"/app/key", "/app/Key", false},
		{arn, "arn:aws:ssm:eu-west-1:123456789012:parameter/app/key", false},
		{arn, "arn:aws:ssm:us-east-1:210987654321:parameter/app/key", false},
		{secretARN, "/aws/reference/secretsmanager/app/key", true},
		{secretARN + ":::v", secretARN, true},
		{secretARN, strings.TrimSuffix(secretARN, "-AbCdEf"), true},
		{arn + "-AbCdEf", arn, false},
		{secretARN, "/app/key", false},
		{secretARN, arn, false},
	} {
		a, errA := ParseName(tc.a)
		b, errB := ParseName(tc.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.SameParameter(b) != tc.want || b.SameParameter(a) != tc.want {
			t.Errorf("%s and %s: %v, want %v", tc.a, tc.b, !tc.want, tc.want)
		}
	}
}
