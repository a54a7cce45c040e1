//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// sqlProject is a stack of its own: localcloud has another setting in it.
const sqlProject = project + "-sql"

var sqlEnviron = []string{"COMPOSE_PROJECT_NAME=" + sqlProject, "COMPOSE_PROFILES=sql", "SQL_ENGINE=http://sql-engine:8090"}

func TestSQLEngine_HasTablesAndOnlyLocalcloudReachesIt(t *testing.T) {
	up := func(args ...string) string {
		t.Helper()
		out, err := composeWith(t.Context(), sqlEnviron, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Cleanup(func() {
		if _, err := composeWith(context.Background(), sqlEnviron, "down", "--volumes", "--remove-orphans", "--timeout", "5"); err != nil {
			t.Error(err)
		}
	})
	up("build", "sql-engine")
	up("up", "-d", "localcloud", "sidecar", "sql-engine")
	found := map[string]map[string]string{}
	for _, name := range []string{"localcloud", "sidecar", "sql-engine"} {
		found[name] = addresses(t, strings.TrimSpace(up("ps", "-q", name)))
	}
	const applications, ofEngine = sqlProject + "_default", sqlProject + "_sql-engine"
	localcloud := found["localcloud"][applications]
	if localcloud == "" || found["localcloud"][ofEngine] == "" || found["sql-engine"][ofEngine] == "" ||
		found["sql-engine"][applications] != "" || found["sidecar"][ofEngine] != "" {
		t.Fatalf("the containers have the addresses %v", found)
	}
	volume := docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", sqlProject+"_snowflake-key")
	path := filepath.Join(volume, keyfile.DER.FileName())
	testenv.Eventually(t, "the sidecar publishes the key", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	db, err := snowkey.Open(t.Context(), path, gosnowflake.Config{
		Account: "LOCAL", User: "DEMO", Host: localcloud, Port: 8085, Protocol: "http", Database: "DB", Schema: "S",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testenv.Eventually(t, "the engine answers", func() bool {
		_, err := db.ExecContext(t.Context(), "CREATE OR REPLACE TABLE people (id INT, name VARCHAR)")
		return err == nil
	})
	if _, err := db.ExecContext(t.Context(), "INSERT INTO people VALUES (1, 'ann')"); err != nil {
		t.Fatal(err)
	}
	var name, user string
	if err := db.QueryRowContext(t.Context(), "SELECT name, CURRENT_USER() FROM people").Scan(&name, &user); err != nil || name != "ann" || user != "DEMO" {
		t.Errorf("got %q and %q, %v", name, user, err)
	}
}

// addresses are those of a container by its networks.
func addresses(t *testing.T, id string) map[string]string {
	t.Helper()
	all := map[string]string{}
	fields := strings.Fields(docker(t, "inspect", "--format", "{{range $name, $at := .NetworkSettings.Networks}}{{$name}} {{$at.IPAddress}} {{end}}", id))
	for pair := range slices.Chunk(fields, 2) {
		all[pair[0]] = pair[len(pair)-1]
	}
	return all
}
