//go:build clients

package clients

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// around runs the text of a file as it stands. What it is told of this machine are the names that the
// README leaves to its reader, where the key is, and where Snowflake is.
const around = `
import builtins, functools, os, sys
import snowflake.connector

really_open, key_file = open, os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]
builtins.open = lambda file, *args, **kwargs: really_open(
    key_file if file == "/run/snowflake/rsa_key.der" else file, *args, **kwargs)
local = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("host", "port", "protocol")}
snowflake.connector.connect = functools.partial(snowflake.connector.connect, **local)

text = really_open(sys.argv[1]).read()
exec(text, {"ACCOUNT": os.environ["SNOWFLAKE_ACCOUNT"], "USER": os.environ["SNOWFLAKE_USER"]})
`

func TestREADMEsPythonRuns(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```python\n")
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("README.md has no Python")
	}
	w := newWorld(t)
	file := filepath.Join(w.home, "readme.py")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := w.start(w.home, w.environ(keyfile.DER), installed(t, "python/venv/bin/python"), "-c", around, file)
	// The connector has warnings of its own, too.
	if printed := w.finish(p); !slices.Contains(strings.Split(printed, "\n"), version) {
		t.Errorf("it printed %q, want %s", printed, version)
	}
}

func TestDbtLogsInWithTheKeyOfItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	debug := func() *process {
		environ := append(w.environ(keyfile.PEM), "SNOWFLAKE_ROLE=LOADER", "SNOWFLAKE_WAREHOUSE=WH", "SNOWFLAKE_DATABASE=DB", "SNOWFLAKE_SCHEMA=S")
		return w.start(installed(t, "dbt"), environ, "venv/bin/dbt", "debug", "--profiles-dir=.", "--log-path="+w.home)
	}
	w.keptTheSecret(w.finish(debug()))
	if n := w.snowflake.LoginCount(fingerprint(1), 0); n == 0 {
		t.Error("no login with the first key")
	}
	w.assign(2, 2)
	w.rotate(2)
	w.published(2)
	w.snowflake.UnsetPublicKey(user, 1)
	w.keptTheSecret(w.finish(debug()))
	if n := w.snowflake.LoginCount(fingerprint(2), 0); n == 0 {
		t.Error("no login with the second key")
	}
	if n := w.snowflake.LoginCount(fingerprint(1), localsnowflake.JWTFingerprintMismatch); n != 0 {
		t.Error("a login with the first key after the rotation")
	}
	w.nothingFailed()
}
