package checks

import (
	"slices"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"go.yaml.in/yaml/v3"
)

// The SQL engine checks no login.
func TestCompose_OnlyLocalcloudReachesTheSQLEngine(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Networks []string
			Ports    []any
		}
		Networks map[string]struct{ Internal bool }
	}
	if err := yaml.Unmarshal([]byte(testenv.Read(t, "../../../docker-compose.yml")), &file); err != nil {
		t.Fatal(err)
	}
	engine := file.Services["sql-engine"]
	if len(engine.Networks) != 1 || len(engine.Ports) != 0 || !file.Networks[engine.Networks[0]].Internal {
		t.Fatalf("the engine is in %v, with the ports %v", engine.Networks, engine.Ports)
	}
	for name, s := range file.Services {
		reaches := slices.Contains(s.Networks, engine.Networks[0])
		if want := name == "sql-engine" || name == "localcloud"; reaches != want {
			t.Errorf("%s reaches it: %v, want %v", name, reaches, want)
		}
	}
}
