package ssm

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secretSetting = "hunter2SECRETsetting"

// settings have a secret, in its place or in a wrong one. FILE is a path in a directory of the test, which has the content
// as well.
var settings = map[string]struct {
	env     map[string]string
	content string
	says    string // of the error
}{
	"a credentials file without =": {
		env:     map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "FILE"},
		content: "[default]\naws_access_key_id=AKIA\naws_secret_access_key " + secretSetting + "\n", says: "a part of its credentials",
	},
	"a broken section":       {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "FILE"}, "[default\naws_secret_access_key=" + secretSetting + "\n", "taskRoleArn"},
	"a stray line":           {map[string]string{"AWS_CONFIG_FILE": "FILE"}, secretSetting + "\n[default]\n", "taskRoleArn"},
	"a wrong number":         {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nmax_attempts=" + secretSetting + "\n", "max_attempts of the profile is not valid"},
	"a wrong mode":           {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nretry_mode=" + secretSetting + "\n", "retry_mode of the profile is not valid"},
	"a wrong default":        {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\ndefaults_mode=" + secretSetting + "\n", "defaults_mode of the profile"},
	"a wrong source":         {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nrole_arn=" + secretSetting + "\ncredential_source=" + secretSetting + "\n", "credential_source"},
	"a missing source":       {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nrole_arn=" + secretSetting + "\nsource_profile=" + secretSetting + "\n", "AWS settings"},
	"a token file's path":    {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nrole_arn=arn:aws:iam::1:role/x\nweb_identity_token_file=/tmp/of it/" + secretSetting + "\n", "no such file"},
	"a session":              {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\nsso_session=" + secretSetting + "\nsso_account_id=" + secretSetting + "\nsso_role_name=x\n", "AWS settings"},
	"an endpoint in a file":  {map[string]string{"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_ENDPOINT_URL_SSM": "", "AWS_CONFIG_FILE": "FILE"}, "[default]\nendpoint_url=http://u:" + secretSetting + "@127.0.0.1:x/\n", "the endpoint_url in the AWS configuration file is not the address"},
	"a process that fails":   {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\ncredential_process=/bin/sh -c \"echo " + secretSetting + "; echo " + secretSetting + " >&2; exit 1\"\n", "credential_process"},
	"a process that prints":  {map[string]string{"AWS_CONFIG_FILE": "FILE"}, "[default]\ncredential_process=/bin/echo " + secretSetting + "\n", "credential_process"},
	"a profile":              {env: map[string]string{"AWS_PROFILE": secretSetting}, says: "no profile of the name in AWS_PROFILE"},
	"a mode":                 {env: map[string]string{"AWS_RETRY_MODE": secretSetting}, says: "AWS_RETRY_MODE is not valid"},
	"a number":               {env: map[string]string{"AWS_MAX_ATTEMPTS": secretSetting}, says: "AWS_MAX_ATTEMPTS is not valid"},
	"a path":                 {env: map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/tmp/" + secretSetting}, says: "no such file"},
	"a CA's file":            {env: map[string]string{"AWS_CA_BUNDLE": "/tmp/" + secretSetting}, says: "AWS settings"},
	"a token with two lines": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "FILE"}, secretSetting + "\nb", "newline"},
	"a token":                {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": secretSetting}, says: "connection refused"},
	"a token with a break":   {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": secretSetting + "\n"}, says: "newline"},
	"an address's path":      {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/v2/" + secretSetting + "?a=" + secretSetting}, says: "connection refused"},
	"an address's password":  {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://u:" + secretSetting + "@127.0.0.1:1/x"}, says: "connection refused"},
	"an address's port":      {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:" + secretSetting + "/x"}, says: "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
	"an address elsewhere":   {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://10.0.0.1/" + secretSetting}, says: "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
	"no address":             {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": secretSetting}, says: "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
	"a relative address":     {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "%" + secretSetting}, says: "AWS"},
	"SSM's password":         {env: map[string]string{"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_ENDPOINT_URL_SSM": "http://u:" + secretSetting + "@127.0.0.1:1/"}, says: "AWS_ENDPOINT_URL_SSM has a user"},
	"SSM's wrong address":    {env: map[string]string{"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_ENDPOINT_URL_SSM": "http://u:" + secretSetting + "@127.0.0.1:x/"}, says: "AWS_ENDPOINT_URL_SSM"},
	"SSM's address is no address": {env: map[string]string{"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_ENDPOINT_URL_SSM": "u:" + secretSetting + " @x"},
		says: "AWS_ENDPOINT_URL_SSM"},
}

func TestErrors_RepeatNoSetting(t *testing.T) {
	for name, tc := range settings {
		t.Run(name, func(t *testing.T) {
			newAccount(t, "http://127.0.0.1:1")
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("HOME", t.TempDir())
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			for name, value := range tc.env {
				t.Setenv(name, strings.ReplaceAll(value, "FILE", file))
			}
			r, err := openReading(t.Context(), Parameters{Key: "/app/key"})
			if err == nil {
				err = failedFetch(t.Context(), r)
			}
			if err == nil || strings.Contains(err.Error(), secretSetting) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("no %q, or the secret, in: %v", tc.says, err)
			}
		})
	}
}

// The endpoint of a task's credentials may answer with what it was sent.
func TestErrors_HideTheCredentialsEndpoint(t *testing.T) {
	for _, format := range []string{`{"code":%q,"message":%[1]q}`, "no %s", `{"AccessKeyId":%q}`} {
		echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, format, r.URL.Path+" "+r.Header.Get("Authorization"))
		}))
		t.Cleanup(echo.Close)
		newAccount(t, "http://127.0.0.1:1")
		fromEndpoint(t, echo.URL+"/v2/"+secretSetting)
		t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", secretSetting)
		err := failedFetch(t.Context(), newReading(t, Parameters{Key: "/app/key"}))
		if err == nil || strings.Contains(err.Error(), secretSetting) || !strings.Contains(err.Error(), "no AWS credentials") {
			t.Errorf("%v", err)
		}
	}
}

func TestLoadConfig_CredentialProcessPrintsNothing(t *testing.T) {
	newAccount(t, "http://127.0.0.1:1")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	file := filepath.Join(t.TempDir(), "config")
	program := `/bin/sh -c "echo ` + secretSetting + ` >&2; echo '{\"Version\": 1, \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"b\"}'"`
	if err := os.WriteFile(file, []byte("[default]\ncredential_process="+program+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	printed, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	stderr := os.Stderr
	os.Stderr = printed
	t.Cleanup(func() { os.Stderr = stderr })
	cfg, err := LoadConfig(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || found.AccessKeyID != "a" {
		t.Errorf("%s, %v", found.AccessKeyID, err)
	}
	if text, err := os.ReadFile(printed.Name()); err != nil || len(text) != 0 {
		t.Errorf("it printed %q, %v", text, err)
	}
}
