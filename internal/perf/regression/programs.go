package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"fmt"
	"go/version"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// programs are a directory with sidecar and consumer as they are released for linux/amd64, and the conditions
// under which their figures can be compared.
type programs struct {
	dir        string
	toolchain  string
	conditions string
}

const platform = "linux/amd64"

// build makes them: the sidecar with the toolchain that go.mod names, whichever is installed, and the consumer,
// which is no part of a release, with the one of goFor.
func build(ctx context.Context, dir string) (programs, error) {
	if err := buildOne(ctx, dir, "sidecar"); err != nil {
		return programs{}, err
	}
	info, err := buildinfo.ReadFile(filepath.Join(dir, "sidecar"))
	if err != nil {
		return programs{}, err
	}
	toolchain := plain(info.GoVersion)
	p := programs{dir: dir, toolchain: toolchain, conditions: conditions(toolchain, platform)}
	return p, buildOne(ctx, dir, "consumer", p.goFor(runtime.Version()))
}

func buildOne(ctx context.Context, dir, name string, toolchain ...string) error {
	args := append([]string{"./" + name, "amd64", filepath.Join(dir, name)}, toolchain...)
	cmd := exec.CommandContext(ctx, "scripts/build.sh", args...)
	// Of the length that a release's have.
	cmd.Env = append(os.Environ(), "VERSION=v0.0.0", "REVISION="+strings.Repeat("0", 40))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("scripts/build.sh ./%s: %w", name, err)
	}
	return nil
}

// goFor names the Go for what is not released: the installed one, for which there is a build cache, unless it
// is so different from go.mod's that it would change the figures.
func (p programs) goFor(installed string) string {
	if installed = plain(installed); version.Lang(installed) == version.Lang(p.toolchain) {
		return installed
	}
	return p.toolchain
}

// plain leaves out what goes with a version, as in go1.26.1-X:runtimesecret.
func plain(goVersion string) string {
	plain, _, _ := strings.Cut(goVersion, "-")
	return plain
}

// conditions leave out Go's patch level: it fixes errors, and changes figures by far less than a tenth.
func conditions(goVersion, platform string) string {
	return version.Lang(goVersion) + " " + platform
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// runHere says why the programs cannot be run on this machine, if so.
func (programs) runHere() error {
	if here := runtime.GOOS + "/" + runtime.GOARCH; here != platform {
		return cannotError{fmt.Errorf("the programs are for %s and this is %s", platform, here)}
	}
	return nil
}

func measureSizes(_ context.Context, p programs) (m measured, err error) {
	m.conditions = p.conditions
	for _, name := range []string{"sidecar", "consumer"} {
		binary, err := os.ReadFile(p.path(name))
		if err != nil {
			return m, err
		}
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		if _, err := io.Copy(w, bytes.NewReader(binary)); err != nil {
			return m, err
		}
		if err := w.Close(); err != nil {
			return m, err
		}
		m.figures = append(m.figures,
			figure{int64(len(binary)), "bytes", name},
			figure{int64(compressed.Len()), "bytes", name + ", compressed"})
	}
	return m, nil
}

// initialised is what the runtime says of each package that has something to do before main.
var initialised = regexp.MustCompile(`(?m)^init .*, (\d+) bytes, (\d+) allocs$`)

// measureStart adds up what packages allocate before main.
func measureStart(ctx context.Context, p programs) (m measured, err error) {
	m.conditions = p.conditions
	if err := p.runHere(); err != nil {
		return m, err
	}
	cmd := exec.CommandContext(ctx, p.path("sidecar"), "version")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return m, fmt.Errorf("sidecar version: %w\n%s", err, out)
	}
	lines := initialised.FindAllSubmatch(out, -1)
	if len(lines) < 10 {
		return m, fmt.Errorf("inittrace names only %d packages:\n%s", len(lines), out)
	}
	var size, count int64
	for _, l := range lines {
		size += number(l[1])
		count += number(l[2])
	}
	m.figures = []figure{{count, "allocs/start", "sidecar"}, {size, "B/start", "sidecar"}}
	return m, nil
}

// number reads digits, and leaves out the commas that people put between them.
func number(digits []byte) int64 {
	n, _ := strconv.ParseInt(strings.ReplaceAll(string(digits), ",", ""), 10, 64) // of what a pattern has found
	return n
}
