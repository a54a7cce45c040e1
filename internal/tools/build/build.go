// Package build makes the programs of this repository for the demo, and for tests of real processes.
//
// It never makes a release, scripts/build.sh does: the sidecar that it makes does not erase memory, since that takes
// GOEXPERIMENT=runtimesecret, and with it a second build of the standard library.
package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const module = "github.com/snowkey/snowkey/"

// Programs builds packages, such as "sidecar" or "internal/local/localcloud", into a directory, with further flags
// of go build.
func Programs(ctx context.Context, dir string, flags []string, packages ...string) error {
	args := append([]string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}, flags...)
	for _, p := range packages {
		args = append(args, module+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}
