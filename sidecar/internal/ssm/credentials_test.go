package ssm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/internal/local/localssm"
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

// The SDK reads a code in JSON, too.
func TestCredentials_PodIdentityRefusedInJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		code   string
		words  []string
	}{
		"no association": {http.StatusNotFound, "ResourceNotFoundException",
			[]string{"status 404, ResourceNotFoundException", "create a Pod Identity association"}},
		"trust policy": {http.StatusForbidden, "AccessDeniedException",
			[]string{"status 403, AccessDeniedException", "sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com"}},
		"a failing agent": {http.StatusInternalServerError, "x", []string{"status 500", "the log of eks-pod-identity-agent"}},
	} {
		t.Run(name, func(t *testing.T) {
			aws, _ := local(t)
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", inPod(t))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(`{"code":"` + tc.code + `","message":"no"}`))
			}))
			t.Cleanup(server.Close)
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
			expectCredentialsAdvice(t, failedFetch(t.Context(), aws.source(aws.name("/key"), "")), tc.words...)
		})
	}
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
	credentials := server.IssueCredentials("node", "i-0123456789abcdef0", time.Hour)
	node := http.NewServeMux()
	node.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		_, _ = w.Write([]byte("token"))
	})
	node.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("node"))
	})
	node.HandleFunc("GET /latest/meta-data/iam/security-credentials/node", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(struct {
			Code string
			localssm.Credentials
		}{"Success", credentials})
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

// A profile's role_arn is assumed after the token was exchanged: its refusal is about neither the token nor the way to STS.
func TestAdvice_RoleOfAProfileIsRefused(t *testing.T) {
	refused := &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &smithy.GenericAPIError{Code: "AccessDenied"}}
	silent := &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: errors.New("connection refused")}
	for _, p := range []Provider{WebIdentity, PodIdentity} {
		if advice := p.Advice(fmt.Errorf("get credentials: %w", refused)); !strings.Contains(advice, "role_arn of the AWS profile") {
			t.Errorf("%v: %s", p, advice)
		}
		if advice := p.Advice(silent); strings.Contains(advice, "role_arn of the AWS profile") {
			t.Errorf("%v without an answer: %s", p, advice)
		}
	}
}
