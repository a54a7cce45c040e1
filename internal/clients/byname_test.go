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

// What connects by name, with nothing but SNOWFLAKE_HOME set. Each prints a line about its session for each way in which it
// connects.
var byName = []struct {
	name, folder string
	program      string // in testdata; "" if the command needs none
	command      []string
	ways         int
}{
	{"Python and SQLAlchemy", "python", "by_name.py", []string{"venv/bin/python"}, 3},
	{"snow CLI", "snow", "", []string{"venv/bin/python", "-m", "snowflake.cli._app", "sql", "--format=CSV", "--query=" + aboutSession}, 1},
	{"Node", "node", "by_name.mjs", []string{"node"}, 1},
	{"Java", "java", "ByName.java", []string{"java", "-cp", "target/lib/*"}, 1},
}

const aboutSession = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"

func TestSnowflakeHome_ClientsConnectByName(t *testing.T) {
	for _, c := range byName {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			command := c.command
			if c.program != "" {
				command = append(slices.Clone(command), copyTo(t, installed(t, c.folder), c.program))
			}
			connect := func(key int) {
				p := w.start(installed(t, c.folder), append(slices.Clone(offline), "SNOWFLAKE_HOME="+w.dir), command[0], command[1:]...)
				printed := w.finish(p)
				w.keptTheSecret(printed)
				if n := strings.Count(strings.ReplaceAll(printed, "\r", ""), version+",LOADER,WH,DB,S\n"); n != c.ways {
					t.Errorf("it printed %q, want the session %d times", printed, c.ways)
				}
				if n := w.snowflake.LoginCount(fingerprint(key), 0); n != c.ways {
					t.Errorf("%d logins with key %d, want %d", n, key, c.ways)
				}
			}
			w.eventually("there is a connection", func() bool {
				_, err := os.Stat(filepath.Join(w.dir, keyfile.ConnectionsName))
				return err == nil
			})
			connect(1)
			w.assign(2, 2)
			w.rotate(2)
			w.published(2)
			w.snowflake.UnsetPublicKey(user, 1)
			connect(2)
			if n := w.snowflake.LoginCount(fingerprint(1), localsnowflake.JWTFingerprintMismatch); n != 0 {
				t.Error("a login with the first key after the rotation")
			}
			w.nothingFailed()
		})
	}
}
