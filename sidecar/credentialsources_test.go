package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// A credential_process may print what is no JSON, and the SDK's error repeats it.
func TestErrors_HideWhatACredentialProcessPrints(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
	configFile := filepath.Join(tmpfs(t), "config")
	k.must(os.Chmod(filepath.Dir(configFile), 0o755))
	k.must(os.WriteFile(configFile, []byte("[default]\ncredential_process = echo "+awsSecret+"\n"), 0o644))
	k.env["AWS_CONFIG_FILE"] = configFile
	k.do("doctor").want(exitFailed, "fail  aws credentials: credential_process of the AWS profile gave none\n      fix: run it by hand and see what it says")
	k.do("once").want(exitFailed, "credential_process of the AWS profile gave none; run it by hand")
}

// On an instance the path of a task's credentials is all that it takes to get them.
func TestErrors_HideWhereATasksCredentialsAre(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
	repeats := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "Cannot GET "+r.URL.Path+" with "+r.Header.Get("Authorization"), http.StatusNotFound)
	}))
	defer repeats.Close()
	k.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = awsSecret
	const path = "/v2/credentials/" + awsSecret
	for _, tc := range []struct {
		uri, says string
		once      int
	}{
		{"http://127.0.0.1:1" + path, "connection refused", exitFailed},
		{"http://127.0.0.1:1a" + path, "AWS_CONTAINER_CREDENTIALS_FULL_URI is not the address", exitUsage},
		{"http://127.0.0.1" + path + "\n", "AWS_CONTAINER_CREDENTIALS_FULL_URI is not the address", exitUsage},
		{repeats.URL + path, "the credentials endpoint answered with status 404", exitFailed},
	} {
		k.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = tc.uri
		k.do("doctor").want(exitFailed, tc.says)
		k.do("once").want(tc.once, tc.says)
	}
}

// No program starts with a variable that is overwritten, and the SDK gives it all that there are.
func TestCredentialProcess_DoesNotGetThePassphrase(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	dir := tmpfs(t)
	k.must(os.Chmod(dir, 0o755))
	program, configFile := filepath.Join(dir, "credentials"), filepath.Join(dir, "config")
	k.must(os.WriteFile(program, []byte("#!/bin/sh\n[ -z \"$PRIVATE_KEY_PASSPHRASE\" ] && echo '{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"x\"}'\n"), 0o755))
	k.must(os.WriteFile(configFile, []byte("[default]\ncredential_process = "+program+"\n"), 0o644))
	k.env["AWS_CONFIG_FILE"] = configFile
	k.do("once").want(exitDone)
}
