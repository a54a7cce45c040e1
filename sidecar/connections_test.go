package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
)

// withLogin names account and user, and has the sidecar write connections.
func withLogin(t *testing.T) *task {
	t.Helper()
	k := newTask(t)
	k.env["SNOWKEY_CONNECTIONS"] = "true"
	k.env["SNOWFLAKE_ACCOUNT"] = "myorg-acct"
	k.env["SNOWFLAKE_USER"] = "SVC"
	return k
}

// connections are those in the directory, by name.
func (k *task) connections() map[string]map[string]string {
	k.t.Helper()
	var all map[string]map[string]string
	_, err := toml.DecodeFile(filepath.Join(k.dir, connections.FileName), &all)
	k.must(err)
	return all
}

// hasConnection compares one value of a connection, "" for none.
func (k *task) hasConnection(name, key, want string) {
	k.t.Helper()
	if got := k.connections()[name][key]; got != want {
		k.t.Errorf("%s of %s is %q, want %q", key, name, got, want)
	}
}

func TestConnections_HaveTheSettings(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.env["SNOWFLAKE_ROLE"] = `"Loader"`
	k.env["SNOWFLAKE_WAREHOUSE"] = "wh"
	k.env["SNOWFLAKE_DATABASE"] = "db"
	k.env["SNOWFLAKE_SCHEMA"] = "public"
	k.env["SNOWFLAKE_HOST"] = "127.0.0.1:8085"
	k.env["SNOWFLAKE_PROTOCOL"] = "http"
	k.do("once").want(exitDone, "published")
	for key, want := range map[string]string{
		"account": "myorg-acct", "user": "SVC", "authenticator": "SNOWFLAKE_JWT",
		"private_key_file": filepath.Join(k.dir, "rsa_key.pem"), "privateKeyPath": filepath.Join(k.dir, "rsa_key.pem"),
		"role": `"Loader"`, "warehouse": "WH", "database": "DB", "schema": "PUBLIC", "host": "127.0.0.1", "port": "8085", "protocol": "http",
	} {
		k.hasConnection("default", key, want)
	}
	for _, name := range []string{"connections.toml", "config.toml"} {
		if f := k.snapshot()[name]; f.Mode() != 0o600 {
			t.Errorf("%s has mode %v", name, f.Mode())
		}
	}
	if !k.status().Connections {
		t.Error("the status does not say that there are connections")
	}
	k.do("healthcheck").want(exitDone)
	k.must(os.Remove(filepath.Join(k.dir, "config.toml")))
	k.do("healthcheck").want(exitFailed, "config.toml: no such file")
	k.do("once", "--connections-mode=0440").want(exitDone, "unchanged")
	if f := k.snapshot()["config.toml"]; f.Mode() != 0o440 {
		t.Errorf("it has mode %v", f.Mode())
	}
}

// JDBC 3 takes port 80 for a connection that has neither a port nor https.
func TestConnections_SayHTTPSByDefault(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.do("once").want(exitDone, "published")
	k.hasConnection("default", "protocol", "https")
	k.hasConnection("default", "port", "")
}

// An account that is a whole host's name is none to clients.
func TestConnections_AccountWithAHostOfItsOwn(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.env["SNOWFLAKE_ACCOUNT"] = "https://xy.strange.snowflakecomputing.com"
	k.do("once").want(exitDone, "published")
	k.hasConnection("default", "account", "xy")
	k.hasConnection("default", "host", "xy.strange.snowflakecomputing.com")
}

func TestConnections_RelativeDirectoryIsWrittenWhole(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	here, err := os.Getwd()
	k.must(err)
	relative, err := filepath.Rel(here, k.dir)
	k.must(err)
	k.do("once", "--dir="+relative).want(exitDone, "published")
	k.hasConnection("default", "private_key_file", filepath.Join(k.dir, "rsa_key.pem"))
}

func TestConnections_OfSeveralKeys(t *testing.T) {
	t.Parallel()
	k := several(t)
	k.env["SNOWKEY_CONNECTIONS"] = "true"
	k.env["SNOWFLAKE_ACCOUNT"] = "myorg-acct"
	k.env["SNOWFLAKE_USER"] = "SVC"
	k.env["SNOWFLAKE_WAREHOUSE"] = "wh"
	k.env["SNOWKEY_KEYS"] = "name=etl,key-parameter=" + keyParameter + ",passphrase-parameter=" + passParameter +
		";name=report,key-parameter=/report/key,passphrase-parameter=" + passParameter + ",user=REPORT,role=reader,warehouse=small,database=db,schema=s"
	k.do("once").want(exitRefused, "key report")
	k.hasConnection("default", "user", "SVC")
	k.hasConnection("report", "user", "")

	k.ssm.Put("/report/key", content(t, nextKey))
	run := k.runSeveral("etl", "report")
	for name, want := range map[string]map[string]string{
		"default": {"user": "SVC", "warehouse": "WH", "role": "", "private_key_file": filepath.Join(k.dir, "etl", "rsa_key.pem")},
		"etl":     {"user": "SVC", "warehouse": "WH", "role": "", "private_key_file": filepath.Join(k.dir, "etl", "rsa_key.pem")},
		"report": {
			"user": "REPORT", "role": "READER", "warehouse": "SMALL", "database": "DB", "schema": "S", "account": "myorg-acct",
			"private_key_file": filepath.Join(k.dir, "report", "rsa_key.pem"),
		},
	} {
		for key, value := range want {
			k.hasConnection(name, key, value)
		}
	}
	k.do("healthcheck").want(exitDone)
	run.end(syscall.SIGTERM)
	k.must(os.Remove(filepath.Join(k.dir, "connections.toml")))
	k.do("healthcheck").want(exitFailed, "connections.toml: no such file")
}

// runSeveral starts `run` and waits for a refresh of several keys that succeeds.
func (k *task) runSeveral(names ...string) *process {
	k.t.Helper()
	p := k.start("run", onDemand)
	p.eventually("every key", func() bool {
		for _, name := range names {
			if s, err := keyfile.ReadStatus(filepath.Join(k.dir, name)); err != nil || s.CheckedAt.IsZero() || s.LastError != nil {
				return false
			}
		}
		return true
	})
	return p
}

// A managed secret says whose key it is, and only it knows before the first fetch.
func TestConnections_OfTheUserInAManagedSecret(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ofSecret()
	k.env["SNOWKEY_CONNECTIONS"] = "true"
	k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase))
	run := k.run()
	k.hasConnection("default", "account", "local")
	k.hasConnection("default", "user", "svc")

	k.ssm.PutSecret(secretID, managed(t, nextKey, passphrase, map[string]any{"user": "other"}))
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, nextFingerprint))
	k.hasConnection("default", "user", "other")

	// The user of a key that cannot be used is not that of the key on disk.
	failures := run.count("refresh failed")
	k.ssm.PutSecret(secretID, managed(t, oldKey, wrongPassphrase, map[string]any{"user": "third"}))
	run.signal(syscall.SIGHUP)
	run.fails(badInput{name: "wrong passphrase", class: keyfile.ClassPassphrase, says: []string{"does not open the key"}}, failures)
	k.hasConnection("default", "user", "other")
	run.end(syscall.SIGTERM)

	// After a start, too.
	k.do("once").want(exitRefused, "does not open the key")
	k.hasConnection("default", "user", "other")

	k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase, map[string]any{"user": ""}))
	k.do("once").want(exitRefused, "does not say whose key it is", "--connections names the user", "SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
	k.env["SNOWFLAKE_USER"] = "MINE" // what is set goes before the secret's own
	k.do("once").want(exitDone)
	k.hasConnection("default", "user", "MINE")
}

// A file that somebody else wrote is an error that a rotation does not wait for.
func TestConnections_FileOfSomebodyElse(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	path := filepath.Join(k.dir, connections.FileName)
	const theirs = "[default]\naccount = \"theirs\"\n"
	k.must(os.WriteFile(path, []byte(theirs), 0o600))
	says := []string{path, "another program wrote it", "move it out of the directory, or leave --connections out"}
	k.do("once").want(exitFailed, says...)
	k.do("healthcheck").want(exitFailed, path+": another program wrote it")
	k.do("exec", "--", "/bin/true").want(exitFailed, says...)

	run := k.start("run", onDemand)
	run.eventually("the error", func() bool { return run.count("refresh failed") > 0 })
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.signal(syscall.SIGHUP)
	run.eventually("the new key", func() bool { return k.status().Fingerprint == fingerprint(t, nextFingerprint) })
	if got := content(t, path); got != theirs {
		t.Errorf("the file has %q", got)
	}
	k.must(os.Remove(path))
	run.signal(syscall.SIGHUP)
	run.eventually("it recovers", func() bool { return k.status().LastError == nil })
	k.hasConnection("default", "user", "SVC")
}

// A sidecar of another uid left it, in a volume that outlives the task.
func TestConnections_FileThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.unprivileged()
	path := filepath.Join(k.dir, connections.FileName)
	k.must(os.WriteFile(path, []byte(connections.Mark+"\n"), 0))
	k.do("once").want(exitFailed, "cannot replace "+path+": permission denied; remove it, or chown it to uid")
	k.do("healthcheck").want(exitFailed, path+": permission denied; remove it, or chown it to uid")
	if k.user != nil { // else the tests' own user, who may change the file's mode alone
		k.must(os.Chown(path, int(k.user.Uid), int(k.user.Gid)))
	}
	k.must(os.Chmod(path, 0o600))
	k.do("once").want(exitDone)
	k.hasConnection("default", "user", "SVC")
}

// exec starts CMD when the connection is there.
func TestConnections_AreThereForCMD(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.do("exec", "--", "/bin/sh", "-c", `grep -q 'user = "SVC"' "$SNOWKEY_DIR/connections.toml" && test -e "$SNOWKEY_DIR/config.toml"`).want(exitDone)
}

// The connection follows the volume, as the key does.
func TestConnections_ComeBackWithTheVolume(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	run := k.run()
	entries, err := os.ReadDir(k.dir)
	k.must(err)
	for _, e := range entries {
		k.must(os.Remove(filepath.Join(k.dir, e.Name())))
	}
	k.ssm.Put(keyParameter, "not a key") // so that it is the published one that comes back
	run.signal(syscall.SIGHUP)
	run.eventually("the files", func() bool {
		_, err := os.Stat(filepath.Join(k.dir, connections.FileName))
		return err == nil
	})
	k.hasConnection("default", "user", "SVC")
}

// A container that reads the key alone, as another user, has a health check, too.
func TestConnections_HealthDoesNotNeedThem(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.env["SNOWKEY_FILE_MODE"] = "0444"
	k.do("once").want(exitDone)
	k.unprivileged()
	k.do("healthcheck").want(exitDone)
}

func TestConnections_StatusSaysSo(t *testing.T) {
	t.Parallel()
	k := withLogin(t)
	k.do("once").want(exitDone)
	var status map[string]any
	k.must(json.Unmarshal([]byte(content(t, filepath.Join(k.dir, keyfile.StatusName))), &status))
	if status["connections"] != true {
		t.Errorf("status %v", status)
	}
	k.do("once", "--connections=false").want(exitDone)
	for _, name := range []string{connections.FileName, connections.ConfigName} {
		if _, err := os.Lstat(filepath.Join(k.dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if k.status().Connections {
		t.Error("the status says that there are connections")
	}
}
