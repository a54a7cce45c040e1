package wrappers

import (
	"os"
	"testing"

	"golang.org/x/mod/modfile"
)

func readGoMod(t *testing.T, path string) *modfile.File {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// version is the required version of a module; empty if there is none.
func version(file *modfile.File, module string) string {
	for _, r := range file.Require {
		if r.Mod.Path == module {
			return r.Mod.Version
		}
	}
	return ""
}

// The wrappers are tested with the driver and the toolchain that the project is built with.
func TestGoMod_AgreesWithProject(t *testing.T) {
	own, project := readGoMod(t, "go.mod"), readGoMod(t, "../../../go.mod")
	const driver = "github.com/snowflakedb/gosnowflake/v2"
	for _, line := range []struct{ name, own, project string }{
		{driver, version(own, driver), version(project, driver)},
		{"go", own.Go.Version, project.Go.Version},
		{"toolchain", own.Toolchain.Name, project.Toolchain.Name},
	} {
		if line.own == "" || line.own != line.project {
			t.Errorf("%s: this go.mod has %q, the project's has %q: make them the same", line.name, line.own, line.project)
		}
	}
}
