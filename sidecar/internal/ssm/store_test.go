package ssm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// An account is AWS as a test sees it: the Store, and the SDK beside it.
type account struct {
	*ssm.Store
	sdk     *sdk.Client
	prefix  string
	makeKey func(alias string)
}

// kmsKey makes a KMS key of this test's own, and returns its alias.
func (a *account) kmsKey() (alias string) {
	alias = "alias" + a.prefix
	a.makeKey(alias)
	return alias
}

func (a *account) name(name string) string { return a.prefix + name }

// onEachEndpoint runs a test against the local SSM and, by make test-moto and make test-localstack, against those.
func onEachEndpoint(t *testing.T, test func(t *testing.T, a *account)) {
	t.Run("local", func(t *testing.T) {
		server := localssm.New()
		a := connect(t, testenv.Serve(t, server).String())
		a.makeKey = func(alias string) { server.CreateKMSKey(alias) }
		test(t, a)
	})
	for name, url := range awsemulator.Endpoints() {
		t.Run(name, func(t *testing.T) {
			a := connect(t, url)
			a.makeKey = func(alias string) { awsemulator.Services(url).CreateKMSKey(t, alias) }
			test(t, a)
		})
	}
}

func connect(t *testing.T, endpoint string, names ...string) *account {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SSM": endpoint, "AWS_ENDPOINT_URL_STS": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": awsemulator.AccessKey,
		"AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	must(t, err)
	store, err := ssm.OpenStore(t.Context(), ssm.Options{}, names...)
	must(t, err)
	return &account{Store: store, sdk: sdk.NewFromConfig(cfg), prefix: "/" + strings.ReplaceAll(t.Name(), "/", "-")}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value(text string) secret.Value { return secret.New([]byte(text)) }

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (a *account) put(t *testing.T, w ssm.Write) int64 {
	t.Helper()
	version, err := a.Put(t.Context(), w)
	must(t, err)
	return version
}

func TestStore_PutStoresASecureString(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name, key := a.name("/key"), a.kmsKey()
		equal(t, "version", a.put(t, ssm.Write{
			Name: name, Value: value("SECRET"), KMSKey: key, Description: "of a test",
			Tags: []ssm.Tag{{Key: "team", Value: "data"}, {Key: "env", Value: "prod"}},
		}), 1)
		got, err := a.Get(t.Context(), name)
		must(t, err)
		equal(t, "value", string(got.Value.Bytes()), "SECRET")
		equal(t, "number", got.Number, 1)
		equal(t, "name", got.Name, name)
		equal(t, "secret", got.Secret(), true)
		latest, err := a.Latest(t.Context(), name)
		must(t, err)
		equal(t, "KMS key", latest.KMSKey, key)
		equal(t, "tier", latest.Tier, types.ParameterTierStandard)
		equal(t, "description", latest.Description, "of a test")
		equal(t, "value that was not asked for", latest.Value.IsSet(), false)
		tags, err := a.sdk.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: &name})
		must(t, err)
		equal(t, "tags", len(tags.TagList), 2)
	})
}

func TestStore_TierFollowsTheSize(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		for size, want := range map[int]types.ParameterTier{
			1: types.ParameterTierStandard, 4096: types.ParameterTierStandard,
			4097: types.ParameterTierAdvanced, 8192: types.ParameterTierAdvanced,
		} {
			name := a.name(fmt.Sprintf("/%d", size))
			a.put(t, ssm.Write{Name: name, Value: value(strings.Repeat("x", size))})
			latest, err := a.Latest(t.Context(), name)
			must(t, err)
			equal(t, fmt.Sprintf("tier of %d bytes", size), latest.Tier, want)
		}
		_, err := a.Put(t.Context(), ssm.Write{Name: a.name("/much"), Value: value(strings.Repeat("x", 8193))})
		wants(t, err, keyfile.ClassOther, "8193 bytes", "8192 at most")
	})
}

func TestStore_RefusesAValueThatAWSTakesForAReference(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		_, err := a.Put(t.Context(), ssm.Write{Name: a.name("/pass"), Value: value("{{hunter2}}")})
		wants(t, err, keyfile.ClassOther, a.name("/pass"), "{{")
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v repeats the value", err)
		}
		if _, err := a.Get(t.Context(), a.name("/pass")); !errors.Is(err, ssm.ErrNotFound) {
			t.Errorf("it was stored: %v", err)
		}
	})
}

func TestStore_PutOverwritesOnlyIfTold(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/key")
		a.put(t, ssm.Write{Name: name, Value: value("one")})
		_, err := a.Put(t.Context(), ssm.Write{Name: name, Value: value("two")})
		wants(t, err, keyfile.ClassOther, name, "exists already")
		if !errors.Is(err, ssm.ErrExists) {
			t.Errorf("%v is not ErrExists", err)
		}
		got, err := a.Get(t.Context(), name)
		must(t, err)
		equal(t, "value", string(got.Value.Bytes()), "one")
	})
}

func TestVersion_NextKeepsKeyTierAndType(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name, key := a.name("/key"), a.kmsKey()
		a.put(t, ssm.Write{Name: name, Value: value(strings.Repeat("x", 5000)), KMSKey: key, Description: "of a test"})
		latest, err := a.Latest(t.Context(), name)
		must(t, err)
		equal(t, "version", a.put(t, latest.Next(value("small"))), 2)
		all, err := a.History(t.Context(), name, true)
		must(t, err)
		equal(t, "versions", len(all), 2)
		next := all[1]
		equal(t, "value", string(next.Value.Bytes()), "small")
		equal(t, "the value before", len(all[0].Value.Bytes()), 5000)
		equal(t, "KMS key", next.KMSKey, key)
		equal(t, "tier", next.Tier, types.ParameterTierAdvanced)
		equal(t, "description", next.Description, "of a test")
		equal(t, "secret", next.Secret(), true)
	})
}

func TestStore_HistoryHasEveryPage(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/key")
		for range 60 { // a page has 50 at most
			a.put(t, ssm.Write{Name: name, Value: value("x"), Overwrite: true})
		}
		all, err := a.History(t.Context(), name, false)
		must(t, err)
		equal(t, "versions", len(all), 60)
		for i, v := range all {
			equal(t, "number", v.Number, int64(i+1))
		}
	})
}

func TestStore_PlainStringCanBeALock(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		lock := ssm.Write{Name: a.name("/lock"), Value: value("me"), Type: types.ParameterTypeString, KMSKey: "of no use"}
		a.put(t, lock)
		if _, err := a.Put(t.Context(), lock); !errors.Is(err, ssm.ErrExists) {
			t.Errorf("taken twice: %v", err)
		}
		got, err := a.Get(t.Context(), lock.Name)
		must(t, err)
		equal(t, "secret", got.Secret(), false)
		must(t, a.Delete(t.Context(), lock.Name))
		a.put(t, lock)
	})
}

func TestStore_TagKeepsOtherTags(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/key")
		a.put(t, ssm.Write{Name: name, Value: value("x"), Tags: []ssm.Tag{{Key: "a", Value: "1"}}})
		must(t, a.Tag(t.Context(), name, []ssm.Tag{{Key: "b", Value: "2"}}))
		tags, err := a.sdk.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: &name})
		must(t, err)
		equal(t, "tags", len(tags.TagList), 2)
	})
}

func TestStore_MissingParameterIsErrNotFound(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/missing")
		_, getErr := a.Get(t.Context(), name)
		_, latestErr := a.Latest(t.Context(), name)
		for what, err := range map[string]error{"get": getErr, "latest": latestErr, "delete": a.Delete(t.Context(), name)} {
			wants(t, err, keyfile.ClassNotFound, "no such parameter "+name+" in us-east-1", "AWS_REGION")
			if !errors.Is(err, ssm.ErrNotFound) {
				t.Errorf("%s: %v is not ErrNotFound", what, err)
			}
		}
	})
}

func TestStore_TakesAnARNOfItsOwnAndRefusesOtherNames(t *testing.T) {
	a := connect(t, testenv.Serve(t, localssm.New()).String())
	const arn = "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
	a.put(t, ssm.Write{Name: arn, Value: value("x")})
	got, err := a.Get(t.Context(), arn)
	must(t, err)
	equal(t, "name", got.Name, arn)
	for _, name := range []string{"/app/key:3", "/app/key:prod", "/aws/reference/secretsmanager/app", arn + ":1", "a b"} {
		if _, err := a.Put(t.Context(), ssm.Write{Name: name, Value: value("x")}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// Every error of every call has its class and has advice. Denied, disabled and throttled are
// switched on at the endpoint; the others are what AWS's service model has for the call.
func TestStore_ErrorsHaveAdvice(t *testing.T) {
	const name, arn = "/app/key", "arn:aws:ssm:us-east-1:123456789012:parameter/app/key"
	put := func(a *account) error {
		_, err := a.Put(context.Background(), ssm.Write{Name: name, Value: value("v"), Overwrite: true, KMSKey: "alias/app"})
		return err
	}
	putWithNoKey := func(a *account) error {
		_, err := a.Put(context.Background(), ssm.Write{Name: name, Value: value("v"), Overwrite: true, KMSKey: "alias/none"})
		return err
	}
	putLarge := func(a *account) error {
		_, err := a.Put(context.Background(), ssm.Write{Name: name, Value: value(strings.Repeat("v", 5000)), Overwrite: true})
		return err
	}
	get := func(a *account) error { _, err := a.Get(context.Background(), name); return err }
	history := func(a *account) error { _, err := a.Latest(context.Background(), name); return err }
	tag := func(a *account) error {
		return a.Tag(context.Background(), name, []ssm.Tag{{Key: "a", Value: "1"}})
	}
	remove := func(a *account) error { return a.Delete(context.Background(), name) }
	fails := func(code, message string) func(*localssm.Server) {
		return func(s *localssm.Server) {
			s.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Code: code, Message: message} })
		}
	}
	kms := "The ciphertext refers to a customer master key that you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException)"
	deny := func(s *localssm.Server) { s.DenyParameter(name) }
	for _, tc := range []struct {
		what  string
		fault func(*localssm.Server)
		do    func(*account) error
		class keyfile.ErrorClass
		says  []string
	}{
		{"put denied", deny, put, keyfile.ClassAccessDenied, []string{"allow ssm:PutParameter", "on " + arn}},
		{"get denied", deny, get, keyfile.ClassAccessDenied, []string{"allow ssm:GetParameter to", arn}},
		{"history denied", deny, history, keyfile.ClassAccessDenied, []string{"allow ssm:GetParameterHistory", arn}},
		{"tag denied", deny, tag, keyfile.ClassAccessDenied, []string{"allow ssm:AddTagsToResource", arn}},
		{"delete denied", deny, remove, keyfile.ClassAccessDenied, []string{"allow ssm:DeleteParameter", arn}},
		{"KMS refuses to encrypt", fails("AccessDeniedException", kms), put, keyfile.ClassKMS, []string{"allow kms:Encrypt", "alias/app", "PARAMETER_ARN"}},
		{"KMS refuses a data key", fails("AccessDeniedException", kms), putLarge, keyfile.ClassKMS, []string{"allow kms:GenerateDataKey"}},
		{"KMS refuses to decrypt", func(s *localssm.Server) { s.DenyDecrypt(name) }, get, keyfile.ClassKMS, []string{"allow kms:Decrypt"}},
		{"key disabled", func(s *localssm.Server) { s.DisableKMSKey(name) }, get, keyfile.ClassKMS, []string{"enabled"}},
		{"key disabled for what is put", func(s *localssm.Server) { s.DisableKMSKey("alias/app") }, put, keyfile.ClassKMS, []string{"enabled"}},
		{"no such KMS key", func(*localssm.Server) {}, putWithNoKey, keyfile.ClassKMS, []string{"alias/NAME", "us-east-1"}},
		{"reserved", fails("AccessDeniedException", "No access to reserved parameter name: /aws/x."), put, keyfile.ClassOther, []string{"does not begin with aws"}},
		{"label on the oldest", fails("ParameterMaxVersionLimitExceeded", "Version 1, the oldest version, can't be deleted because it has a label."), put, keyfile.ClassOther, []string{"Version 1", "unlabel-parameter-version --name /app/key"}},
		{"at the same moment", fails("TooManyUpdates", ""), put, keyfile.ClassThrottled, []string{"another program"}},
		{"quota", fails("ParameterLimitExceeded", "You have exceeded the number of parameters."), put, keyfile.ClassOther, []string{"delete parameters", "quota"}},
		{"another type", fails("HierarchyTypeMismatchException", ""), put, keyfile.ClassOther, []string{"another type"}},
		{"not valid", fails("ValidationException", "Value at 'keyId' failed to satisfy constraint"), put, keyfile.ClassOther, []string{"keyId", "correct"}},
		{"throttled", func(s *localssm.Server) { s.Throttle(10) }, put, keyfile.ClassThrottled, []string{"in a minute"}},
		{"AWS fails", fails("InternalServerError", ""), put, keyfile.ClassNetwork, []string{"run this again", "Health"}},
		{"expired", fails("ExpiredTokenException", "expired"), put, keyfile.ClassCredentials, []string{"credentials", "clock"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			server := localssm.New()
			server.CreateKMSKey("alias/app")
			server.Put(name, "value")
			a := connect(t, testenv.Serve(t, server).String())
			tc.fault(server)
			wants(t, tc.do(a), tc.class, tc.says...)
		})
	}
}

func TestStore_MissingAnswerIsOfClassNetwork(t *testing.T) {
	server := localssm.New()
	server.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Delay: time.Second} })
	connect(t, testenv.Serve(t, server).String())
	store, err := ssm.OpenStore(t.Context(), ssm.Options{CallTimeout: 50 * time.Millisecond})
	must(t, err)
	_, err = store.Put(t.Context(), ssm.Write{Name: "/app/key", Value: value("x")})
	wants(t, err, keyfile.ClassNetwork, "did not answer", "AWS_ENDPOINT_URL_SSM")

	a := connect(t, "http://127.0.0.1:1")
	_, err = a.Latest(t.Context(), "/app/key")
	wants(t, err, keyfile.ClassNetwork, "AWS_ENDPOINT_URL_SSM")
}

func TestStore_LabelOnTheOldestOf100VersionsHasAdvice(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, a *account) {
		name := a.name("/key")
		for range 100 {
			a.put(t, ssm.Write{Name: name, Value: value("x"), Overwrite: true})
		}
		_, err := a.sdk.LabelParameterVersion(t.Context(), &sdk.LabelParameterVersionInput{Name: &name, ParameterVersion: aws.Int64(1), Labels: []string{"prod"}})
		must(t, err)
		_, err = a.Put(t.Context(), ssm.Write{Name: name, Value: value("x"), Overwrite: true})
		wants(t, err, keyfile.ClassOther, "oldest", "unlabel-parameter-version")
	})
}

func wants(t *testing.T, err error, class keyfile.ErrorClass, says ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if got := failure.Class(err); got != class {
		t.Errorf("class %s, want %s: %v", got, class, err)
	}
	for _, words := range says {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("no %q in: %v", words, err)
		}
	}
}
