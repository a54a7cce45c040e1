package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"

	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

// The health check is run beside a task that has its settings, and must not need any of them.
func TestHealthcheck_NeedsOnlyTheDisk(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("healthcheck").want(exitFailed, "unhealthy", "no sidecar has published here", "log")
	k.publish()
	calls := len(k.ssm.Calls())
	k.do("healthcheck").want(exitDone)

	k.withoutAWS()
	healthy := k.do("healthcheck")
	healthy.want(exitDone)
	if said := healthy.stdout.String() + healthy.stderr.String(); said != "" {
		t.Errorf("it says %q, every few seconds", said)
	}
	if len(k.ssm.Calls()) != calls {
		t.Error("it called SSM")
	}
}

func TestHealthcheck_FindsBrokenFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*task)
		args  []string
		says  []string
	}{
		"one file is missing":   {func(k *task) { k.must(os.Remove(filepath.Join(k.dir, "rsa_key.pem"))) }, nil, []string{"rsa_key.pem", "no such file"}},
		"a file is empty":       {overwrite("rsa_key.der", ""), nil, []string{"rsa_key.der", "empty"}},
		"a file is cut":         {overwrite("rsa_key.der", "0\x82\x04\xbd\x02\x01"), nil, []string{"rsa_key.der", "not a private key in a supported form"}},
		"a file is encrypted":   {func(k *task) { overwrite("rsa_key.pem", content(k.t, oldKey))(k) }, nil, []string{"rsa_key.pem", "encrypted"}},
		"a file is a directory": {replaceByDirectory("rsa_key.der"), nil, []string{"rsa_key.der", "not a regular file"}},
		"another key in a file": {overwrite("rsa_key.pem", string(keyfile.PEM.Encode(testkey.Key(1)))), nil, []string{"rsa_key.pem", "do not agree"}},
		"another format is old": {func(k *task) {
			k.must(os.WriteFile(filepath.Join(k.dir, "rsa_key.b64"), keyfile.B64.Encode(testkey.Key(1)), 0o440))
		}, nil, []string{"rsa_key.b64", "do not agree"}},
		"the directory is wrong": {func(*task) {}, []string{"--dir=/nonexistent"}, []string{"/nonexistent/status.json", "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.publish()
			tc.spoil(k)
			k.do(append([]string{"healthcheck"}, tc.args...)...).want(exitFailed, append(tc.says, "unhealthy")...)
		})
	}
}

func overwrite(name, text string) func(*task) {
	return func(k *task) {
		path := filepath.Join(k.dir, name)
		k.must(os.Chmod(path, 0o600))
		k.must(os.WriteFile(path, []byte(text), 0o600))
	}
}

func replaceByDirectory(name string) func(*task) {
	return func(k *task) {
		path := filepath.Join(k.dir, name)
		k.must(os.Remove(path))
		k.must(os.Mkdir(path, 0o755))
	}
}

func TestHealthcheck_RefusesUnknownSettings(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("healthcheck", "--no-such-flag").want(exitUsage, "no such flag: --no-such-flag")
	k.env["SNOWKEY_DIRECTORY"] = k.dir
	k.do("healthcheck").want(exitUsage, "SNOWKEY_DIRECTORY", "SNOWKEY_DIR")
}

// A task definition may give the health check the flags of run. It goes by what run has written.
func TestHealthcheck_IgnoresFlagsOfRun(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone)
	k.do("healthcheck", "--formats=b64", "--interval=5m", "--key-parameter=/other").want(exitDone)
}

func TestVersion_NeedsNothing(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.withoutAWS()
	version := k.do("version")
	memory := harden.Memory()
	end, advice := ", memory "+memory.Says+"\n", ""
	if memory.Advice != "" {
		advice = "advice: " + memory.Advice + "\n"
	}
	version.want(exitDone, "snowkey sidecar ", runtime.GOOS+"/"+runtime.GOARCH, runtime.Version())
	if _, after, found := strings.Cut(version.stdout.String(), end); !found || after != advice {
		t.Errorf("%q does not end in %q", &version.stdout, end+advice)
	}
	k.do("version", "please").want(exitUsage, "version takes no arguments")
}
