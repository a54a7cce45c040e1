// Package awsemulator reaches moto or LocalStack, emulators of AWS by others, for tests that can run against one of
// them: make test-moto and make test-localstack start them and say where they are. It has what a test needs there
// besides SSM.
//
// It never reaches AWS itself, and signs nothing: neither emulator checks a signature.
package awsemulator

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Account is the account of every endpoint for requests with [AccessKey].
const Account = "123456789012"

// AccessKey is the access key ID: LocalStack takes a number for the account's, and moto has this account for every ID.
const AccessKey = Account

// LocalStack is the URL of LocalStack, "" where none runs.
func LocalStack() string { return os.Getenv("LOCALSTACK_ENDPOINT") }

// Endpoints are the URLs of those that run, by name.
func Endpoints() map[string]string {
	endpoints := map[string]string{"moto": os.Getenv("MOTO_ENDPOINT"), "localstack": LocalStack()}
	maps.DeleteFunc(endpoints, func(_, url string) bool { return url == "" })
	return endpoints
}

// Services are Secrets Manager and KMS at a URL, without their SDKs: five actions do not merit two dependencies.
type Services string

// PutSecret stores a secret's next version.
func (s Services) PutSecret(t testing.TB, id, value string) (versionID string) {
	t.Helper()
	in := map[string]string{"SecretId": id, "SecretString": value, "ClientRequestToken": rand.Text() + rand.Text()}
	status, body := s.call(t, "secretsmanager", "secretsmanager.PutSecretValue", in)
	if status != http.StatusOK {
		delete(in, "SecretId")
		in["Name"] = id
		status, body = s.call(t, "secretsmanager", "secretsmanager.CreateSecret", in)
	}
	var out struct{ VersionID string }
	decode(t, "PutSecretValue", status, body, &out)
	return out.VersionID
}

// CreateKMSKey makes a key with this alias.
func (s Services) CreateKMSKey(t testing.TB, alias string) (id string) {
	t.Helper()
	var out struct{ KeyMetadata struct{ KeyID string } }
	s.kms(t, "CreateKey", nil, &out)
	s.kms(t, "CreateAlias", map[string]string{"AliasName": alias, "TargetKeyId": out.KeyMetadata.KeyID}, nil)
	return out.KeyMetadata.KeyID
}

// DisableKMSKey disables a key.
func (s Services) DisableKMSKey(t testing.TB, id string) {
	t.Helper()
	s.kms(t, "DisableKey", map[string]string{"KeyId": id}, nil)
}

func (s Services) kms(t testing.TB, action string, in map[string]string, out any) {
	t.Helper()
	status, body := s.call(t, "kms", "TrentService."+action, in)
	decode(t, action, status, body, out)
}

func decode(t testing.TB, action string, status int, body string, out any) {
	t.Helper()
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", action, status, body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(body), out); err != nil {
		t.Fatalf("%s: %v", action, err)
	}
}

func (s Services) call(t testing.TB, service, target string, in map[string]string) (status int, body string) {
	t.Helper()
	if in == nil {
		in = map[string]string{}
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return Post(t, string(s), target, Authorization("us-east-1", service), string(text))
}

// Authorization is the header of a request that names a Region and a service, with no real signature.
func Authorization(region, service string) string {
	scope := strings.Join([]string{AccessKey, "20260101", region, service, "aws4_request"}, "/")
	return "AWS4-HMAC-SHA256 Credential=" + scope + ", SignedHeaders=host, Signature=0"
}

// Post sends AWS JSON 1.1, also what an SDK would not; authorization may be empty.
func Post(t testing.TB, url, target, authorization, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}
