package ssm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// withToken has credentials by web identity, with a secret as its token.
func withToken(t *testing.T, sts string) {
	t.Helper()
	fromEndpoint(t, "")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secretSetting), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts)
}

func TestWebIdentity_HostileSTSCostsLittle(t *testing.T) {
	const start = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
	for name, body := range map[string]string{
		"a long token": start + "<SessionToken>" + strings.Repeat("A", fourMB),
		"elements":     start + strings.Repeat("<a></a>", fourMB/7),
		"deep":         start + strings.Repeat("<a>", fourMB/3),
		"an error":     "<ErrorResponse><Error><Code>" + strings.Repeat("A", fourMB) + "</Code></Error></ErrorResponse>",
	} {
		for _, status := range []int{200, 400} {
			t.Run(fmt.Sprint(name, " with status ", status), func(t *testing.T) {
				url := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(status)
					_, _ = io.WriteString(w, body)
				})
				withToken(t, url)
				r := newReading(t, Parameters{Key: "/key"})
				var err error
				if n := allocated(func() { err = failedFetch(t.Context(), r) }); n > 8<<20 {
					t.Errorf("it took %d MB", n>>20)
				}
				if failure.Class(err) != keyfile.ClassCredentials || len(err.Error()) > 1500 {
					t.Errorf("class %s, %d bytes: %.300s", failure.Class(err), len(fmt.Sprint(err)), err)
				}
			})
		}
	}
}

// The request has the token, and a redirect with 307 would send it to another host.
func TestWebIdentity_FollowsNoRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var followed, called atomic.Int64
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
		t.Cleanup(other.Close)
		url := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			called.Add(1)
			http.Redirect(w, r, other.URL, status)
		})
		withToken(t, url)
		err := failedFetch(t.Context(), newReading(t, Parameters{Key: "/key"}))
		if err == nil || !strings.Contains(err.Error(), "redirect") || strings.Contains(err.Error(), secretSetting) {
			t.Errorf("%d: %v", status, err)
		}
		if called.Load() == 0 || followed.Load() != 0 {
			t.Errorf("%d: %d requests, %d followed", status, called.Load(), followed.Load())
		}
	}
}

// The SDK gets credentials without the context of the call that needs them, and the call ends first.
func TestWebIdentity_STSThatSaysNothing(t *testing.T) {
	testenv.Slow(t)
	end := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(end) })
	newAccount(t, silent.URL)
	withToken(t, silent.URL)
	key, err := NewKey(Parameters{Key: "/key"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(t.Context(), Options{CallTimeout: 200 * time.Millisecond}, key)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Fetch(t.Context(), []Wanted{{Key: key}})[0].Err
	if failure.Class(err) != keyfile.ClassCredentials || !strings.Contains(err.Error(), "no AWS credentials") || !strings.Contains(err.Error(), "a VPC endpoint for sts") {
		t.Errorf("class %s: %v", failure.Class(err), err)
	}
}

func TestProviderOf(t *testing.T) {
	const (
		token = "AWS_WEB_IDENTITY_TOKEN_FILE=/token"
		role  = "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/app"
		agent = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials"
		file  = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/token"
	)
	for _, tc := range []struct {
		name    string
		env     []string
		profile string
		want    Provider
	}{
		{name: "web identity", env: []string{token, role}, want: WebIdentity},
		{name: "Pod Identity", env: []string{agent, file}, want: PodIdentity},
		{name: "both", env: []string{token, role, agent, file}, want: WebIdentity},
		{name: "a task role", env: []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/1", file}, want: OtherProvider},
		{name: "an endpoint without a token file", env: []string{agent}, want: OtherProvider},
		{name: "a user's key before a token", env: []string{token, role, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}, want: OtherProvider},
		{name: "web identity of a profile", profile: "[default]\nrole_arn=arn:aws:iam::123456789012:role/app\nweb_identity_token_file=/token\n", want: WebIdentity},
		{name: "nothing", want: OtherProvider},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newAccount(t, "http://127.0.0.1:1")
			fromEndpoint(t, "")
			profile := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(profile, []byte(tc.profile), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_CONFIG_FILE", profile)
			for _, setting := range tc.env {
				name, value, _ := strings.Cut(setting, "=")
				t.Setenv(name, value)
			}
			cfg, err := LoadConfig(t.Context(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := ProviderOf(cfg); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
