//go:build clients

package clients

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// around runs the text of a file as it stands. What it is told of this machine are the names that the
// README leaves to its reader, and where Snowflake is.
const around = `
import functools, os, sys
import snowflake.connector

local = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("host", "port", "protocol")}
snowflake.connector.connect = functools.partial(snowflake.connector.connect, **local)

text = open(sys.argv[1]).read()
exec(text, {"ACCOUNT": os.environ["SNOWFLAKE_ACCOUNT"], "USER": os.environ["SNOWFLAKE_USER"]})
`

func TestREADME_PythonRuns(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```python\n")
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("README.md has no Python")
	}
	f := newFixture(t)
	file := filepath.Join(f.home, "readme.py")
	text = strings.ReplaceAll(text, "/run/snowflake/", f.dir+"/")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := f.start(f.home, f.environ(), installed(t, "python/venv/bin/python"), "-c", around, file)
	// The connector has warnings of its own, too.
	if printed := p.Wait(); !slices.Contains(strings.Split(printed, "\n"), version) {
		t.Errorf("it printed %q, want %s", printed, version)
	}
}
