package wrappers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Each driver has a variable of its own: gosnowflake 2 corrected the spelling.
const (
	skipGosnowflake1 = "GOSNOWFLAKE_SKIP_REGISTERATION"
	skipGosnowflake2 = "GOSNOWFLAKE_SKIP_REGISTRATION"
)

// bothDrivers is the path of the program of that name. The first test that needs it builds it.
var bothDrivers struct {
	once sync.Once
	dir  string
	err  error
}

func buildBothDrivers(t *testing.T) string {
	t.Helper()
	b := &bothDrivers
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "bothdrivers"); b.err != nil {
			return
		}
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "bothdrivers"), "./bothdrivers")
		if out, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%s: %w\n%s", build, err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, "bothdrivers")
}

// runBothDrivers runs the program with the given variables, and without the other ones.
func runBothDrivers(t *testing.T, variables []string, args ...string) (output, complaints string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), buildBothDrivers(t), args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(setting string) bool { return strings.HasPrefix(setting, "GOSNOWFLAKE_SKIP_") })
	for _, variable := range variables {
		cmd.Env = append(cmd.Env, variable+"=true")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

func TestBothDrivers_Register(t *testing.T) {
	for _, tc := range []struct {
		name      string
		variables []string
		want      string // the package of the driver "snowflake"; empty if the program panics
	}{
		{"without a variable", nil, ""},
		{"variable of gosnowflake 2", []string{skipGosnowflake2}, "github.com/snowflakedb/gosnowflake"},
		{"variable of gosnowflake 1", []string{skipGosnowflake1}, "github.com/snowflakedb/gosnowflake/v2"},
		{"both variables", []string{skipGosnowflake1, skipGosnowflake2}, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			output, complaints, err := runBothDrivers(t, tc.variables, "registered")
			if tc.want == "" {
				if err == nil || !strings.Contains(complaints, "Register called twice for driver snowflake") {
					t.Errorf("the program says %q %q, %v", output, complaints, err)
				}
				return
			}
			if err != nil || strings.TrimSpace(output) != tc.want {
				t.Errorf("%q is registered, %v, want %q\n%s", output, err, tc.want, complaints)
			}
		})
	}
}

// snowkey works whether gosnowflake 1 or no driver has the name "snowflake". So does gosnowflake 1, under another name.
func TestBothDrivers_Query(t *testing.T) {
	for _, tc := range []struct {
		name      string
		variables []string
	}{
		{"variable of gosnowflake 2", []string{skipGosnowflake2}},
		{"both variables", []string{skipGosnowflake1, skipGosnowflake2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAccount(t)
			_, complaints, err := runBothDrivers(t, tc.variables, "query", a.host, strconv.Itoa(a.port), a.keyFile)
			if err != nil {
				t.Fatalf("%v\n%s", err, complaints)
			}
			a.expectOnKey("SELECT 'snowkey'", 1, 0)
			a.expectOnKey("SELECT 'gosnowflake 1'", 1, 0)
			if left := a.snowflake.Sessions(); len(left) > 0 {
				t.Errorf("sessions left: %+v", left)
			}
		})
	}
}
