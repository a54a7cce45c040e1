package ssm

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// inPod has nothing but what every pod has. It gives the path of a token.
func inPod(t *testing.T) (token string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	token = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secretSetting), 0o600); err != nil {
		t.Fatal(err)
	}
	return token
}

// answering is a service that gives one answer.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func stsError(code, message string) string {
	return fmt.Sprintf(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
}

func expectCredentialsAdvice(t *testing.T, err error, words ...string) {
	t.Helper()
	if failure.Class(err) != keyfile.ClassCredentials {
		t.Errorf("class %s: %v", failure.Class(err), err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\nlacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "taskRoleArn") || strings.Contains(err.Error(), secretSetting) {
		t.Errorf("%v has words of a task, or the token", err)
	}
}

func TestCredentials_NoRoleInAPod(t *testing.T) {
	aws, _ := local(t)
	inPod(t)
	err := failedFetch(t.Context(), aws.source(aws.name("/key"), ""))
	expectCredentialsAdvice(t, err, "Pod Identity association", "eks.amazonaws.com/role-arn", "serviceAccountName")
}

// STS says what is wrong with a token or a trust policy.
func TestCredentials_WebIdentityRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		code, message string
		words         []string
	}{
		"trust policy": {"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity",
			[]string{"Not authorized to perform", "Condition in the role's trust policy", ":sub is system:serviceaccount:NAMESPACE:NAME", ":aud is sts.amazonaws.com"}},
		"expired token": {"ExpiredTokenException", "Token expired: current date/time 1700000000 must be before the expiration date/time 1600000000",
			[]string{"ExpiredTokenException", "without subPath", "the clock of the node"}},
		"no provider": {"InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://oidc.eks.us-east-1.amazonaws.com/id/X",
			[]string{"InvalidIdentityToken", "OIDC provider of this cluster in IAM", "Principal"}},
		"wrong audience": {"InvalidIdentityToken", "Incorrect token audience", []string{"audience", "OIDC provider"}},
		"no ARN":         {"ValidationError", "Request ARN is invalid", []string{"role's ARN in the service account's annotation eks.amazonaws.com/role-arn"}},
	} {
		t.Run(name, func(t *testing.T) {
			aws, _ := local(t)
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", inPod(t))
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
			t.Setenv("AWS_ENDPOINT_URL_STS", answering(t, http.StatusBadRequest, stsError(tc.code, tc.message)))
			expectCredentialsAdvice(t, failedFetch(t.Context(), aws.source(aws.name("/key"), "")), tc.words...)
		})
	}
}

func TestCredentials_WebIdentityWithoutItsToken(t *testing.T) {
	aws, _ := local(t)
	token := inPod(t)
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	fetch := func() error { return failedFetch(t.Context(), aws.source(aws.name("/key"), "")) }
	expectCredentialsAdvice(t, fetch(), "let the pod reach STS", "NetworkPolicy")
	if os.Getuid() != 0 { // root reads it
		if err := os.Chmod(token, 0); err != nil {
			t.Fatal(err)
		}
		expectCredentialsAdvice(t, fetch(), "securityContext.fsGroup")
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	expectCredentialsAdvice(t, fetch(), "AWS_WEB_IDENTITY_TOKEN_FILE", "start it again")
}

// What the agent on the node answers, or that there is none.
func TestCredentials_PodIdentityRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		uri   func(*testing.T) string
		words []string
	}{
		"no association": {func(t *testing.T) string {
			return answering(t, http.StatusNotFound, `{"code":"ResourceNotFoundException","message":"no"}`)
		}, []string{"status 404", "Pod Identity association", "sts:TagSession", "pods.eks.amazonaws.com"}},
		"trust policy": {func(t *testing.T) string {
			return answering(t, http.StatusForbidden, `{"code":"AccessDeniedException","message":"no"}`)
		}, []string{"status 403", "trust policy", "sts:AssumeRole and sts:TagSession"}},
		"a failing agent": {func(t *testing.T) string {
			return answering(t, http.StatusInternalServerError, `{"code":"x","message":"no"}`)
		},
			[]string{"status 500", "the log of the EKS Pod Identity Agent"}},
		"no agent": {func(*testing.T) string { return "http://127.0.0.1:1/v1/credentials" },
			[]string{"eks-pod-identity-agent", "169.254.170.23 port 80", "Fargate"}},
	} {
		t.Run(name, func(t *testing.T) {
			aws, _ := local(t)
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", inPod(t))
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", tc.uri(t))
			expectCredentialsAdvice(t, failedFetch(t.Context(), aws.source(aws.name("/key"), "")), tc.words...)
		})
	}
	t.Run("no token", func(t *testing.T) {
		aws, _ := local(t)
		t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", inPod(t)+".gone")
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/v1/credentials")
		expectCredentialsAdvice(t, failedFetch(t.Context(), aws.source(aws.name("/key"), "")), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "start it again")
	})
}

func TestDenied_NamesThePodsRole(t *testing.T) {
	aws, server := local(t)
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	for deny, words := range map[string]string{
		"parameter": "allow ssm:GetParameters in the role of the pod's service account on arn:aws:ssm:",
		"kms":       "allow kms:Decrypt in the role of the pod's service account on",
	} {
		server.ClearFaults()
		if deny == "kms" {
			server.DenyDecrypt(aws.name("/key"))
		} else {
			server.DenyParameter(aws.name("/key"))
		}
		if err := failedFetch(t.Context(), aws.source(aws.name("/key"), "")); !strings.Contains(err.Error(), words) {
			t.Errorf("%v lacks %q", err, words)
		}
	}
}

// Without a role of its own a pod gets the credentials of its node, which are not allowed to read the key.
func TestDenied_NodesRole(t *testing.T) {
	aws, server := local(t)
	server.DenyParameter(aws.name("/key"))
	inPod(t)
	node := http.NewServeMux()
	node.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		_, _ = w.Write([]byte("token"))
	})
	node.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("node"))
	})
	node.HandleFunc("GET /latest/meta-data/iam/security-credentials/node", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"x","Token":"y","Expiration":"2099-01-01T00:00:00Z"}`))
	})
	metadata := httptest.NewServer(node)
	defer metadata.Close()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	for _, file := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(file, "")
	}
	err := failedFetch(t.Context(), aws.source(aws.name("/key"), ""))
	if failure.Class(err) != keyfile.ClassAccessDenied || !strings.Contains(err.Error(), "these are the credentials of the node: give the pod's service account a role") {
		t.Errorf("%s: %v", failure.Class(err), err)
	}
}
