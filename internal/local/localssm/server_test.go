package localssm_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
)

// start serves s, and returns the SDK's client without retries.
func start(t *testing.T, s *localssm.Server) *endpoint {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return newEndpoint(t, server.URL, localServices{s})
}

// retrying returns the client as an application has it, only less patient.
func (e *endpoint) retrying() *ssm.Client {
	return ssm.New(e.Options(), func(o *ssm.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
}

func (e *endpoint) tryGet(withDecryption bool, names ...string) error {
	_, err := e.GetParameters(e.t.Context(), &ssm.GetParametersInput{Names: names, WithDecryption: &withDecryption})
	return err
}

func TestServer_PollWithoutDecryptionDecryptsNothing(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	s := localssm.New(localssm.WithClock(func() time.Time { return clock }))
	e := start(t, s)
	s.Put("/app/key", "key")
	s.Put("/app/pass", "passphrase")

	noError(t, e.tryGet(false, "/app/key", "/app/pass:1"))
	equal(t, "Decrypts", s.Decrypts(), 0)
	equal(t, "Calls", s.Calls(), []localssm.Call{
		{Action: "GetParameters", Names: []string{"/app/key", "/app/pass:1"}, Time: clock},
	})

	noError(t, e.tryGet(true, "/app/key", "/app/pass"))
	equal(t, "Decrypts", s.Decrypts(), 2)
	equal(t, "WithDecryption", s.Calls()[1].WithDecryption, true)

	e.get("/app/key", true)
	equal(t, "Calls", s.Calls()[2], localssm.Call{Action: "GetParameter", Names: []string{"/app/key"}, WithDecryption: true, Time: clock})
	equal(t, "Decrypts", s.Decrypts(), 3)
}

func TestServer_SecretCountsAsDecrypted(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.PutSecret("db", "secret")
	e.get("/aws/reference/secretsmanager/db", true)
	equal(t, "Decrypts", s.Decrypts(), 1)
}

func TestServer_PutReturnsVersions(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	equal(t, "version", s.Put("/app/key", "one"), 1)
	equal(t, "version", s.Put("/app/key", strings.Repeat("x", 8192)), 2)
	s.Label("/app/key", "prod", 1)
	equal(t, "Value", deref(e.get("/app/key:prod", true).Value), "one")
	s.Delete("/app/key")
	s.Delete("/app/key")
	equal(t, "InvalidParameters", e.getAll(true, "/app/key").InvalidParameters, []string{"/app/key"})
	equal(t, "version", s.Put("/app/key", "again"), 1)
}

func TestServer_DeletesASecret(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.PutSecret("db", "secret")
	s.Delete("/aws/reference/secretsmanager/db")
	wantCode(t, e.tryGetOne("/aws/reference/secretsmanager/db"), "ParameterNotFound")
}

func (e *endpoint) tryGetOne(name string) error {
	_, err := e.GetParameter(e.t.Context(), &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	return err
}

func TestServer_SettersPanicOnTheImpossible(t *testing.T) {
	for name, impossible := range map[string]func(*localssm.Server){
		"put a reserved name":        func(s *localssm.Server) { s.Put("/aws/key", "value") },
		"put a name with a selector": func(s *localssm.Server) { s.Put("/app/key:1", "value") },
		"put nothing":                func(s *localssm.Server) { s.Put("/app/key", "") },
		"put too much":               func(s *localssm.Server) { s.Put("/app/key", strings.Repeat("x", 8193)) },
		"label what is not there":    func(s *localssm.Server) { s.Label("/app/key", "prod", 1) },
		"make a KMS key of AWS":      func(s *localssm.Server) { s.CreateKMSKey("alias/aws/ssm") },
		"make a KMS key twice": func(s *localssm.Server) {
			s.CreateKMSKey("alias/app")
			s.CreateKMSKey("alias/app")
		},
		"label with a number": func(s *localssm.Server) {
			s.Put("/app/key", "value")
			s.Label("/app/key", "1", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := localssm.New()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
				s.Put("/app/other", "value") // and no lock left behind
			}()
			impossible(s)
		})
	}
}

func TestServer_CiphertextHidesThePlaintext(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "-----BEGIN ENCRYPTED PRIVATE KEY-----")
	value := deref(e.get("/app/key", false).Value)
	sealed, err := base64.StdEncoding.DecodeString(value)
	noError(t, err)
	if strings.Contains(string(sealed), "BEGIN") {
		t.Error("the ciphertext shows the plaintext")
	}
}

func TestServer_LastModifiedDateHasMilliseconds(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	s := localssm.New(localssm.WithClock(func() time.Time { return modified }))
	e := start(t, s)
	s.Put("/app/key", "value")
	_, body := e.post(t, "AmazonSSM.GetParameter", authorization, `{"Name":"/app/key"}`)
	wantMessage(t, errors.New(body), `"LastModifiedDate":1767323045.678,`)
	if got := e.get("/app/key", false).LastModifiedDate; !got.Equal(modified) {
		t.Errorf("LastModifiedDate = %v, want %v", got, modified)
	}
}

func TestServer_HasRegionAndAccount(t *testing.T) {
	s := localssm.New(localssm.WithRegion("eu-north-1"), localssm.WithAccount("210987654321"))
	e := start(t, s)
	e.Client = newClient(e.url, "eu-north-1")
	s.Put("/app/key", "value")
	s.PutSecret("db", "secret")
	const arn = "arn:aws:ssm:eu-north-1:210987654321:parameter/app/key"
	equal(t, "ARN", deref(e.get("/app/key", false).ARN), arn)
	equal(t, "Name", deref(e.get(arn, false).Name), "/app/key")
	wantPrefix(t, "ARN", deref(e.get("/aws/reference/secretsmanager/db", true).ARN), "arn:aws:secretsmanager:eu-north-1:210987654321:secret:db-")

	elsewhere := strings.Replace(arn, "210987654321", "123456789012", 1)
	equal(t, "InvalidParameters", e.getAll(false, elsewhere).InvalidParameters, []string{elsewhere})
}

func TestServer_DeniesAParameter(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	s.Put("/app/pass", "pass")
	const denied = "User: arn:aws:sts::123456789012:assumed-role/app-task/session is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/key because no identity-based policy allows the ssm:GetParameters action"

	s.DenyParameter("/app/key")
	for _, spelling := range []string{"/app/key", "/app/key:1", e.arn("/app/key")} {
		wantError(t, e.tryGet(false, "/app/pass", spelling), "AccessDeniedException", denied)
	}
	wantError(t, e.tryGetOne("/app/key"), "AccessDeniedException", strings.ReplaceAll(denied, "ssm:GetParameters", "ssm:GetParameter"))
	noError(t, e.tryGet(true, "/app/pass"))
	equal(t, "calls", len(s.Calls()), 5)

	s.Allow("/app/key")
	noError(t, e.tryGet(true, "/app/key"))
}

func TestServer_DeniesDecryption(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	s.PutSecret("db", "secret")
	s.DenyDecrypt("/app/key")
	s.DenyDecrypt("/aws/reference/secretsmanager/db")

	noError(t, e.tryGet(false, "/app/key"))
	message := wantCode(t, e.tryGet(true, "/app/key"), "AccessDeniedException")
	wantPrefix(t, "message", message, "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: ")
	wantCode(t, e.tryGetOne("/aws/reference/secretsmanager/db"), "AccessDeniedException")
	equal(t, "Decrypts", s.Decrypts(), 0)

	s.ClearFaults()
	noError(t, e.tryGet(true, "/app/key", "/aws/reference/secretsmanager/db"))
}

func TestServer_DisablesAKMSKey(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	s.DisableKMSKey("/app/key")

	noError(t, e.tryGet(false, "/app/key"))
	err := e.tryGet(true, "/app/key")
	message := wantCode(t, err, "InvalidKeyId")
	wantPrefix(t, "message", message, "arn:aws:kms:us-east-1:123456789012:key/")
	wantMessage(t, err, " is disabled. (Service: AWSKMS; Status Code: 400; Error Code: DisabledException; Request ID: ")
	var modelled *types.InvalidKeyId
	if !errors.As(err, &modelled) {
		t.Errorf("error is %T, want the SDK's type", err)
	}

	s.Allow("/app/key")
	noError(t, e.tryGet(true, "/app/key"))
}

func TestServer_Throttles(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")

	s.Throttle(1)
	wantError(t, e.tryGet(false, "/app/key"), "ThrottlingException", "Rate exceeded")
	noError(t, e.tryGet(false, "/app/key"))

	s.Throttle(2)
	_, err := e.retrying().GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/app/key")})
	noError(t, err)
	equal(t, "calls", len(s.Calls()), 5)

	s.Throttle(100)
	s.ClearFaults()
	noError(t, e.tryGet(false, "/app/key"))
}

func TestIntercept_Answers(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "one")
	failures := 2
	s.Intercept(func(c localssm.Call) *localssm.Fault {
		equal(t, "Action", c.Action, "GetParameter")
		if failures--; failures < 0 {
			s.Put("/app/key", "two") // the server may be used from here
			return nil
		}
		return &localssm.Fault{Status: 500, Code: "InternalServerError", Message: "An error occurred on the server side."}
	})
	out, err := e.retrying().GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/app/key"), WithDecryption: aws.Bool(true)})
	noError(t, err)
	equal(t, "Value", deref(out.Parameter.Value), "two")
	equal(t, "calls", len(s.Calls()), 3)

	s.Intercept(nil)
	noError(t, e.tryGet(true, "/app/key"))
}

func TestIntercept_Delays(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")

	s.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Delay: 20 * time.Millisecond} })
	began := time.Now()
	equal(t, "Value", deref(e.get("/app/key", true).Value), "key")
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("answered after %v", took)
	}

	s.Intercept(func(localssm.Call) *localssm.Fault { return &localssm.Fault{Delay: time.Hour} })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := e.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/app/key")})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the deadline", err)
	}
}

func TestServer_RefusesAnUnreadableRequest(t *testing.T) {
	s := localssm.New()
	status, body := start(t, s).post(t, "AmazonSSM.GetParameter", authorization, `{"Name":`)
	equal(t, "status", status, 400)
	equal(t, "body", strings.TrimSpace(body), `{"__type":"SerializationException"}`)
	equal(t, "calls", len(s.Calls()), 0)
}

func TestServer_RefusesAnUnknownPage(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	_, err := e.GetParameterHistory(t.Context(), &ssm.GetParameterHistoryInput{Name: aws.String("/app/key"), NextToken: aws.String("later")})
	wantCode(t, err, "InvalidNextToken")
	_, err = e.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{{Key: aws.String("Tier"), Values: []string{"Standard"}}}})
	wantCode(t, err, "InvalidFilterKey")
}

// TestServer_ConcurrentUse is for the race detector.
func TestServer_ConcurrentUse(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				s.Put(fmt.Sprint("/app/", i), "value")
				s.Put("/app/key", "key")
				s.DenyDecrypt("/app/other")
				s.PutSecret("db", "secret")
				if err := e.tryGet(true, "/app/key", "/aws/reference/secretsmanager/db"); err != nil {
					t.Error(err)
				}
				s.Calls()
				s.Decrypts()
				s.ClearFaults()
			}
		})
	}
	all.Wait()
	equal(t, "Decrypts", s.Decrypts(), 320)
}

func TestServer_RecordsCalls(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.CreateKMSKey("alias/app")
	equal(t, "Values", s.Values("/app/key"), nil)
	equal(t, "Description", s.Description("/app/key"), localssm.Description{})
	_, err := e.PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String("/app/key"), Value: aws.String("one"), Type: types.ParameterTypeSecureString,
		KeyId: aws.String("alias/app"), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("data")}},
	})
	noError(t, err)
	e.overwrite("/app/key", strings.Repeat("x", 4096))
	s.PutString("/app/lock", "me")
	equal(t, "Values", s.Values("/app/key"), []string{"one", strings.Repeat("x", 4096)})
	equal(t, "Values", s.Values("/app/lock"), []string{"me"})
	equal(t, "Description", s.Description("/app/key"), localssm.Description{
		Type: "SecureString", Tier: "Standard", KeyID: "alias/app", Tags: map[string]string{"team": "data"},
	})
	equal(t, "Type", s.Description("/app/lock").Type, "String")
	equal(t, "Decrypts", s.Decrypts(), 0)
}

// The SDK counts its attempts; what it sends again is no call of the program.
func TestServer_RetryIsRecordedAsOneCall(t *testing.T) {
	s := localssm.New()
	e := start(t, s)
	s.Put("/app/key", "key")
	s.Intercept(func(c localssm.Call) *localssm.Fault {
		if c.Again {
			return nil
		}
		return &localssm.Fault{Status: 500, Code: "InternalServerError"}
	})
	_, err := e.retrying().GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{"/app/key"}})
	noError(t, err)
	calls := s.Calls()
	equal(t, "calls", len(calls), 2)
	equal(t, "Again", []bool{calls[0].Again, calls[1].Again}, []bool{false, true})
}
