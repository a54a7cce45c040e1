package ssm

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Each case runs against the local SSM and, by make test-moto and make test-localstack, against those,
// which are not ours. Parameters are named after the test, so that cases share an endpoint.
func onEachEndpoint(t *testing.T, test func(t *testing.T, aws *account)) {
	t.Run("local", func(t *testing.T) {
		server := localssm.New()
		local := httptest.NewServer(server)
		t.Cleanup(local.Close)
		test(t, newAccount(t, local.URL))
	})
	for name, url := range awsemulator.Endpoints() {
		t.Run(name, func(t *testing.T) { test(t, newAccount(t, url)) })
	}
}

// An account is AWS as a test sees it: it stores parameters with the SDK, as another program does.
type account struct {
	t      *testing.T
	prefix string
	client *ssm.Client
}

func newAccount(t *testing.T, endpoint string) *account {
	t.Setenv("AWS_ENDPOINT_URL_SSM", endpoint)
	t.Setenv("AWS_ENDPOINT_URL_STS", endpoint)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", awsemulator.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &account{t: t, prefix: "/" + strings.ReplaceAll(t.Name(), "/", "-"), client: ssm.NewFromConfig(cfg)}
}

func (a *account) name(name string) string { return a.prefix + name }

func (a *account) put(name, value string) {
	a.t.Helper()
	_, err := a.client.PutParameter(a.t.Context(), &ssm.PutParameterInput{
		Name: aws.String(a.name(name)), Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) label(name, label string, version int64) {
	a.t.Helper()
	_, err := a.client.LabelParameterVersion(a.t.Context(), &ssm.LabelParameterVersionInput{
		Name: aws.String(a.name(name)), ParameterVersion: &version, Labels: []string{label},
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// A reading is a reader and its keys.
type reading struct {
	*Reader
	keys []*Key
}

func newReading(t testing.TB, keys ...Parameters) *reading {
	t.Helper()
	r, err := openReading(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openReading(ctx context.Context, keys ...Parameters) (*reading, error) {
	var r reading
	for _, p := range keys {
		k, err := NewKey(p)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, k)
	}
	var err error
	r.Reader, err = NewReader(ctx, Options{}, r.keys...)
	return &r, err
}

// wanted is every key, of which this much is known.
func (r *reading) wanted(known []Revision) []Wanted {
	var all []Wanted
	for i, k := range r.keys {
		all = append(all, Wanted{Key: k, Known: known[i]})
	}
	return all
}

func (a *account) source(key, passphrase string) *reading {
	a.t.Helper()
	return newReading(a.t, Parameters{Key: key, Passphrase: passphrase})
}

func fetch(t *testing.T, s *reading, known Revision) *Material {
	t.Helper()
	f := s.Fetch(t.Context(), s.wanted([]Revision{known}))[0]
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	return f.Material
}

// failedFetch is why the one key of a source does not come.
func failedFetch(ctx context.Context, s *reading) error {
	return s.Fetch(ctx, s.wanted(make([]Revision, 1)))[0].Err
}

func want(t *testing.T, m *Material, text, passphrase, version string) {
	t.Helper()
	if m == nil {
		t.Fatal("unchanged, want material")
	}
	if got := string(m.Text.Bytes()); got != text {
		t.Errorf("text %q, want %q", got, text)
	}
	if got := string(m.Passphrase.Bytes()); got != passphrase {
		t.Errorf("passphrase %q, want %q", got, passphrase)
	}
	if m.Version != version {
		t.Errorf("version %s, want %s", m.Version, version)
	}
}

func TestReader_FetchesKeyAndPassphraseTogether(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "KEY")
		aws.put("/pass", "PASS")
		s := aws.source(aws.name("/key"), aws.name("/pass"))
		for range 20 { // answers come in any order
			want(t, fetch(t, s, Revision{}), "KEY", "PASS", "1")
		}
	})
}

func TestReader_UnchangedKeyHasNoMaterial(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "KEY")
		aws.put("/pass", "PASS")
		s := aws.source(aws.name("/key"), aws.name("/pass"))
		first := fetch(t, s, Revision{})
		if again := fetch(t, s, first.Revision); again != nil {
			t.Fatal("fetched again without a change")
		}
		aws.put("/pass", "PASS 2")
		second := fetch(t, s, first.Revision)
		want(t, second, "KEY", "PASS 2", "1")
		aws.put("/key", "KEY 2")
		want(t, fetch(t, s, second.Revision), "KEY 2", "PASS 2", "2")
	})
}

func TestReader_TakesEveryKindOfName(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "KEY 1")
		aws.put("/key", "KEY 2")
		aws.put("/key", "KEY 3")
		aws.label("/key", "prod", 2)
		aws.put("/pass", "PASS")
		arn := "arn:aws:ssm:us-east-1:123456789012:parameter"
		for name, tc := range map[string]struct{ written, text, version string }{
			"name":              {aws.name("/key"), "KEY 3", "3"},
			"name:version":      {aws.name("/key:1"), "KEY 1", "1"},
			"name:label":        {aws.name("/key:prod"), "KEY 2", "2"},
			"ARN":               {arn + aws.name("/key"), "KEY 3", "3"},
			"ARN with version":  {arn + aws.name("/key:1"), "KEY 1", "1"},
			"ARN with a label":  {arn + aws.name("/key:prod"), "KEY 2", "2"},
			"name, no leading/": {strings.ReplaceAll(aws.name("flat"), "/", ""), "FLAT", "1"},
		} {
			t.Run(name, func(t *testing.T) {
				if tc.text == "FLAT" {
					flat := *aws
					flat.prefix = ""
					flat.put(tc.written, "FLAT")
				}
				want(t, fetch(t, aws.source(tc.written, aws.name("/pass")), Revision{}), tc.text, "PASS", tc.version)
			})
		}
	})
}

func TestReader_MissingParameterIsNamed(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, aws *account) {
		aws.put("/key", "KEY")
		for _, tc := range []struct{ key, passphrase, missing string }{
			{"/none", "", "/none"},
			{"/key", "/none", "/none"},
			{"/key:7", "", "/key:7"},
			{"/key:staging", "", "/key:staging"},
		} {
			passphrase := ""
			if tc.passphrase != "" {
				passphrase = aws.name(tc.passphrase)
			}
			err := failedFetch(t.Context(), aws.source(aws.name(tc.key), passphrase))
			if failure.Class(err) != keyfile.ClassNotFound || !strings.Contains(err.Error(), aws.name(tc.missing)) {
				t.Errorf("%s and %s: error %v of class %s", tc.key, tc.passphrase, err, failure.Class(err))
			}
		}
	})
}

// The cases below need faults or a count of calls, which only the local SSM has.
func local(t *testing.T) (*account, *localssm.Server) {
	server := localssm.New()
	endpoint := httptest.NewServer(server)
	t.Cleanup(endpoint.Close)
	a := newAccount(t, endpoint.URL)
	a.put("/key", "KEY")
	a.put("/pass", "PASS")
	return a, server
}

func TestReader_PollDoesNotDecrypt(t *testing.T) {
	aws, server := local(t)
	s := aws.source(aws.name("/key"), aws.name("/pass"))
	known := fetch(t, s, Revision{}).Revision
	decrypts, calls := server.Decrypts(), len(server.Calls())
	for range 10 {
		if fetch(t, s, known) != nil {
			t.Fatal("fetched again without a change")
		}
	}
	if n := server.Decrypts() - decrypts; n != 0 {
		t.Errorf("%d values were decrypted while nothing changed", n)
	}
	if n := len(server.Calls()) - calls; n != 10 {
		t.Errorf("10 polls made %d calls", n)
	}
	aws.put("/key", "KEY 2")
	want(t, fetch(t, s, known), "KEY 2", "PASS", "2")
	if n := server.Decrypts() - decrypts; n != 2 {
		t.Errorf("a change had %d values decrypted, want key and passphrase", n)
	}
}

func TestReader_TakesReferencesToSecretsManager(t *testing.T) {
	aws, server := local(t)
	id := server.PutSecret("app/key", "KEY 1")
	s := aws.source("/aws/reference/secretsmanager/app/key", "")
	first := fetch(t, s, Revision{})
	want(t, first, "KEY 1", "", id)
	if fetch(t, s, first.Revision) != nil {
		t.Error("fetched again without a change")
	}
	old := id
	id = server.PutSecret("app/key", "KEY 2")
	want(t, fetch(t, s, first.Revision), "KEY 2", "", id)
	for selector, is := range map[string]struct{ text, version string }{
		"AWSCURRENT": {"KEY 2", id}, "AWSPREVIOUS": {"KEY 1", old}, old: {"KEY 1", old},
	} {
		s := aws.source("/aws/reference/secretsmanager/app/key:"+selector, aws.name("/pass"))
		want(t, fetch(t, s, Revision{}), is.text, "PASS", is.version)
	}
}

// As ECS users write a secret.
func TestReader_TakesASecretsARN(t *testing.T) {
	aws, server := local(t)
	old := server.PutSecret("app/key", "KEY 1")
	id := server.PutSecret("app/key", "KEY 2")
	const arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key-AbCdEf"
	for written, is := range map[string]struct{ text, version string }{
		arn: {"KEY 2", id}, arn + ":::": {"KEY 2", id}, arn + "::AWSPREVIOUS:": {"KEY 1", old}, arn + ":::" + old: {"KEY 1", old},
		secretsManagerPrefix + arn: {"KEY 2", id},
	} {
		s := aws.source(written, "")
		want(t, fetch(t, s, Revision{}), is.text, "", is.version)
		if s.keys[0].name.String() != written {
			t.Errorf("%s became %s", written, s.keys[0].name)
		}
	}
	for written, says := range map[string]string{
		arn + ":privateKey::":          "name the whole secret",
		arn + "::AWSCURRENT:" + id:     "not with both",
		"arn:aws:secretsmanager:x:1:y": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX",
		arn + ":AWSCURRENT":            "::STAGE:",
	} {
		if _, err := ParseName(written); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v lacks %q", written, err, says)
		}
	}
	elsewhere := strings.Replace(arn, "us-east-1", "eu-central-1", 1)
	if _, err := openReading(t.Context(), Parameters{Key: elsewhere}); err == nil || !strings.Contains(err.Error(), "AWS_REGION=eu-central-1") {
		t.Errorf("error %v for a secret of another Region", err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("HOME", t.TempDir())
	if s := aws.source(elsewhere, ""); s.region != "eu-central-1" {
		t.Errorf("region %s", s.region)
	}
}

func TestReader_ErrorsOfSecretsManagerHaveAdvice(t *testing.T) {
	const (
		reference = "/aws/reference/secretsmanager/app/key"
		arn       = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/key-SUFFIX"
	)
	for name, tc := range map[string]struct {
		fault func(s *localssm.Server)
		class keyfile.ErrorClass
		words []string
	}{
		"no permission for the reference": {func(s *localssm.Server) { s.DenyParameter(reference) }, keyfile.ClassAccessDenied,
			[]string{"allow ssm:GetParameters", "arn:aws:ssm:us-east-1:123456789012:parameter" + reference}},
		"no permission for the secret": {func(s *localssm.Server) { s.DenySecret(reference) }, keyfile.ClassAccessDenied,
			[]string{"allow secretsmanager:GetSecretValue in the task role on " + arn}},
		"no permission for its KMS key": {func(s *localssm.Server) { s.DenyDecrypt(reference) }, keyfile.ClassKMS,
			[]string{"allow kms:Decrypt", "kms:EncryptionContext:SecretARN = arn:aws:secretsmanager:us-east-1:ACCOUNT:secret:app/key-SUFFIX"}},
		"no such secret": {func(s *localssm.Server) {}, keyfile.ClassNotFound, []string{"no secret app/none in us-east-1", "create it there, or"}},
	} {
		t.Run(name, func(t *testing.T) {
			aws, server := local(t)
			server.PutSecret("app/key", "KEY")
			tc.fault(server)
			asked := reference
			if tc.class == keyfile.ClassNotFound {
				asked = secretsManagerPrefix + "app/none"
			}
			err := failedFetch(t.Context(), aws.source(asked, ""))
			if failure.Class(err) != tc.class {
				t.Fatalf("error %v of class %s, want %s", err, failure.Class(err), tc.class)
			}
			for _, words := range tc.words {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("error %q lacks %q", err, words)
				}
			}
		})
	}
}

func TestReader_ErrorsOfAWSHaveAdvice(t *testing.T) {
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter"
	for name, tc := range map[string]struct {
		fault func(s *localssm.Server, key string)
		class keyfile.ErrorClass
		words []string
	}{
		"no permission": {
			fault: (*localssm.Server).DenyParameter,
			class: keyfile.ClassAccessDenied,
			words: []string{"ssm:GetParameters", arn + "<KEY>"},
		},
		"no permission to decrypt": {
			fault: (*localssm.Server).DenyDecrypt,
			class: keyfile.ClassKMS,
			words: []string{"kms:Decrypt", "kms:EncryptionContext:PARAMETER_ARN = arn:aws:ssm:us-east-1:ACCOUNT:parameter<KEY>"},
		},
		"no permission to decrypt in the words of KMS": {
			fault: func(s *localssm.Server, _ string) {
				answer(s, "AccessDeniedException", "User: arn:aws:sts::123456789012:assumed-role/app/x is not authorized to perform: "+
					"kms:Decrypt on resource: arn:aws:kms:us-east-1:123456789012:key/1 because no resource-based policy allows the "+
					"kms:Decrypt action (Service: AWSKMS; Status Code: 400)")
			},
			class: keyfile.ClassKMS,
			words: []string{"allow kms:Decrypt", arn + "<KEY>"},
		},
		"KMS key disabled": {
			fault: (*localssm.Server).DisableKMSKey,
			class: keyfile.ClassKMS,
			words: []string{"disabled", "enable the KMS key"},
		},
		"throttled": {
			fault: func(s *localssm.Server, _ string) { s.Throttle(100) },
			class: keyfile.ClassThrottled,
			words: []string{"Rate exceeded", "refresh less often"},
		},
		"AWS fails": {
			fault: func(s *localssm.Server, _ string) { answer(s, "InternalServerError", "") },
			class: keyfile.ClassOther,
			words: []string{"InternalServerError; nothing to do here"},
		},
		"expired credentials": {
			fault: func(s *localssm.Server, _ string) {
				answer(s, "ExpiredTokenException", "The security token included in the request is expired")
			},
			class: keyfile.ClassCredentials,
			words: []string{"expired", "credentials"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			aws, server := local(t)
			t.Setenv("AWS_MAX_ATTEMPTS", "1")
			key := aws.name("/key")
			tc.fault(server, key)
			err := failedFetch(t.Context(), aws.source(key, aws.name("/pass")))
			if failure.Class(err) != tc.class {
				t.Fatalf("error %v of class %s, want %s", err, failure.Class(err), tc.class)
			}
			for _, word := range tc.words {
				if word := strings.ReplaceAll(word, "<KEY>", key); !strings.Contains(err.Error(), word) {
					t.Errorf("error %q lacks %q", err, word)
				}
			}
		})
	}
}

func answer(s *localssm.Server, code, message string) {
	s.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Code: code, Message: message} })
}

func TestReader_UnreachableSSMIsOfClassNetwork(t *testing.T) {
	aws, _ := local(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1") // another test's server cannot have this port
	err := failedFetch(t.Context(), aws.source("/key", ""))
	if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "check the way to 127.0.0.1:1") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}

// Something on the way cuts an answer, or answers itself.
func TestReader_AnswerThatIsNotSSMsIsOfClassNetwork(t *testing.T) {
	aws, _ := local(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	for name, body := range map[string]string{
		"cut":  `{"InvalidParameters":[],"Parameters":[{"Name":"/key","Val`,
		"page": "<!DOCTYPE html><title>Log in</title>",
	} {
		between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		t.Cleanup(between.Close)
		t.Setenv("AWS_ENDPOINT_URL_SSM", between.URL)
		err := failedFetch(t.Context(), aws.source("/key", ""))
		if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "check the way to "+strings.TrimPrefix(between.URL, "http://")) {
			t.Errorf("%s: error %v of class %s", name, err, failure.Class(err))
		}
	}
}

func TestReader_FetchEndsWithItsContext(t *testing.T) {
	aws, server := local(t)
	server.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Delay: time.Minute} })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if failedFetch(ctx, aws.source(aws.name("/key"), "")) == nil {
		t.Error("no error from an SSM that hangs")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestReader_MissingCredentialsHaveAdvice(t *testing.T) {
	aws, _ := local(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	err := failedFetch(t.Context(), aws.source(aws.name("/key"), ""))
	if failure.Class(err) != keyfile.ClassCredentials || !strings.Contains(err.Error(), "taskRoleArn") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}

// The task role's endpoint answers with an error of its own, which is not SSM's.
func TestReader_FailingTaskRoleIsOfClassCredentials(t *testing.T) {
	aws, _ := local(t)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"AccessDenied","message":"no"}`))
	}))
	defer role.Close()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL)
	err := failedFetch(t.Context(), aws.source(aws.name("/key"), ""))
	if failure.Class(err) != keyfile.ClassCredentials || !strings.Contains(err.Error(), "taskRoleArn") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}

func TestReader_TakesTheRegionOfAnARN(t *testing.T) {
	newAccount(t, "http://127.0.0.1:1")
	t.Setenv("AWS_REGION", "")
	t.Setenv("HOME", t.TempDir())
	s, err := openReading(t.Context(), Parameters{Key: "arn:aws:ssm:eu-central-1:123456789012:parameter/app/key"})
	if err != nil || s.region != "eu-central-1" {
		t.Errorf("region %v, error %v", s, err)
	}
	if _, err := openReading(t.Context(), Parameters{Key: "/app/key"}); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("error %v without a region", err)
	}
}

func TestParseName_RefusesWhatIsNoName(t *testing.T) {
	for _, written := range []string{
		"", "a b", "app/key", "/app/key:", "/app/key:1:2", "arn:aws:s3:::bucket", "arn:aws:ssm:us-east-1:1:parameter/x",
		"/aws/reference/secretsmanager/", "/aws/reference/secretsmanager/app/key:", "/aws/reference/secretsmanager/app/key:a:b",
		"/aws/reference/secretsmanager/{}", "/app/kéy",
	} {
		if _, err := ParseName(written); err == nil {
			t.Errorf("%q is taken for a parameter's name", written)
		}
	}
}

func TestEnvironment_GivesItsMaterialOnce(t *testing.T) {
	e := Environment{Text: secret.New([]byte("KEY")), Passphrase: secret.New([]byte("PASS"))}
	m := e.Fetch(t.Context(), []Wanted{{}})[0].Material
	want(t, m, "KEY", "PASS", "")
	m.Clear()
	if string(e.Text.Bytes()) == "KEY" || string(e.Passphrase.Bytes()) == "PASS" {
		t.Error("what was fetched is cleared, and another copy of it is there")
	}
	if again := e.Fetch(t.Context(), []Wanted{{Known: m.Revision}})[0]; again.Material != nil || again.Err != nil {
		t.Errorf("%v on the second fetch", again)
	}
}

func TestDescribe_GivesTypeVersionAndTime(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, account *account) {
		account.put("/key", "KEY")
		d, err := describe(account, "/key")
		if err != nil {
			t.Fatal(err)
		}
		if d.Type != "SecureString" || d.Version != "1" || time.Since(d.Modified).Abs() > time.Minute {
			t.Errorf("described as %+v", d)
		}
		if _, err := describe(account, "/other"); failure.Class(err) != keyfile.ClassNotFound {
			t.Errorf("no parameter: %v", err)
		}
	})
}

func TestDescribe_DoesNotDecrypt(t *testing.T) {
	server := localssm.New()
	local := httptest.NewServer(server)
	defer local.Close()
	account := newAccount(t, local.URL)
	account.put("/key", "KEY")
	server.DenyDecrypt(account.name("/key"))
	if _, err := describe(account, "/key"); err != nil {
		t.Error(err)
	}
}

func describe(a *account, name string) (Description, error) {
	a.t.Helper()
	r := a.source(a.name(name), "")
	return r.Describe(a.t.Context(), r.keys[0])
}
