package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/connections"
)

func TestDoctor_JudgesTheConnections(t *testing.T) {
	t.Parallel()
	const wide = "ok    connections: default, with SNOWFLAKE_HOME=DIR, for uid UID and gid GID (UID:GID 0440)"
	for name, tc := range map[string]struct {
		spoil func(*task)
		line  string
	}{
		"all is well": {nil, "ok    connections: default, with SNOWFLAKE_HOME=DIR, for uid UID (UID:GID 0600)"},
		"readers of other users": {func(k *task) {
			k.env["SNOWKEY_CONNECTIONS_MODE"] = "0440"
			k.do("once").want(exitDone)
		}, wide},
		"another mode": {func(k *task) { k.must(os.Chmod(filepath.Join(k.dir, connections.FileName), 0o640)) },
			"fail  connections: DIR/connections.toml is UID:GID 0640, and --connections-mode is 0600; send SIGHUP to refresh: that sets the mode again"},
		"no file": {func(k *task) { k.must(os.Remove(filepath.Join(k.dir, connections.FileName))) },
			"fail  connections: DIR/connections.toml is missing; send SIGHUP to refresh: that writes the file again"},
		"another mode of config.toml": {func(k *task) { k.must(os.Chmod(filepath.Join(k.dir, connections.ConfigName), 0o666)) },
			"fail  connections: DIR/config.toml is UID:GID 0666, and --connections-mode is 0600; send SIGHUP to refresh: that sets the mode again"},
		"no config.toml": {func(k *task) { k.must(os.Remove(filepath.Join(k.dir, connections.ConfigName))) },
			"fail  connections: DIR/config.toml is missing; send SIGHUP to refresh: that writes the file again"},
		"other settings": {func(k *task) { k.env["SNOWFLAKE_WAREHOUSE"] = "OTHER" },
			"warn  connections: the connection default is not as these settings have it; give doctor the settings of the sidecar, or send SIGHUP to refresh: that writes the file again"},
		"somebody else's file": {overwrite(connections.FileName, "[default]\n"),
			"fail  connections: cannot replace DIR/connections.toml: another program wrote it, since the first line is not snowkey's; move it out of the directory, or leave --connections out: the sidecar replaces only files that it has written"},
		"a directory in its place": {replaceByDirectory(connections.ConfigName),
			"fail  connections: DIR/config.toml is a directory; remove it: the sidecar replaces regular files only"},
		"nothing is published yet": {func(k *task) {
			entries, err := os.ReadDir(k.dir)
			k.must(err)
			for _, e := range entries {
				k.must(os.Remove(filepath.Join(k.dir, e.Name())))
			}
		}, "warn  connections: none yet; start the sidecar: sidecar run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, _ := examined(t)
			k.user = nil // who may also spoil it
			k.env["SNOWKEY_CONNECTIONS"] = "true"
			k.do("once").want(exitDone)
			if tc.spoil != nil {
				tc.spoil(k)
			}
			before := k.snapshot()
			p := k.do("doctor")
			k.untouched(before)
			if lines := strings.Join(p.checklist(), "\n"); !strings.Contains(lines, k.fill(tc.line)) {
				t.Errorf("no %q in\n%s", k.fill(tc.line), lines)
			}
		})
	}
}

func TestDoctor_JudgesTheConnectionOfEachKey(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	k.env["SNOWKEY_CONNECTIONS"] = "true"
	k.env["SNOWFLAKE_ACCOUNT"] = "myorg-acct"
	k.env["SNOWFLAKE_HOST"] = "127.0.0.1:1" // where nothing listens
	k.env["SNOWFLAKE_USER"] = "SVC"
	k.do("once").want(exitDone)
	lines := strings.Join(k.do("doctor").checklist(), "\n")
	for _, name := range []string{"etl", "report"} {
		if want := k.fill("ok    " + name + ", connections: " + name + ", with SNOWFLAKE_HOME=DIR, for uid UID (UID:GID 0600)"); !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
}
