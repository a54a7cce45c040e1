package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A program is built as the Dockerfile builds it.
type program struct {
	name string
	pkg  string
	tags string
}

var programs = []program{
	{name: "sidecar", pkg: "./sidecar"},
	{name: "consumer", pkg: "./consumer", tags: "minicore_disabled"},
	{name: "localcloud", pkg: "./internal/local/localcloud"},
}

var architectures = []string{"amd64", "arm64"}

// A module is one that packages of a program come from, with the files that have to go along.
type module struct {
	path, version string
	files         []string
}

const standardLibrary = "Go standard library"

type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// modules are the modules of all architectures together.
func (p program) modules() ([]module, error) {
	byPath := map[string]*module{}
	for _, arch := range architectures {
		packages, err := p.packages(arch)
		if err != nil {
			return nil, err
		}
		for _, pkg := range packages {
			if pkg.Module == nil || pkg.Module.Main {
				continue
			}
			m := byPath[pkg.Module.Path]
			if m == nil {
				m = &module{path: pkg.Module.Path, version: pkg.Module.Version}
				byPath[m.path] = m
			}
			if err := m.collect(pkg.Dir, pkg.Module.Dir); err != nil {
				return nil, err
			}
		}
	}
	goroot, err := output(nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := []module{{path: standardLibrary, files: []string{filepath.Join(strings.TrimSpace(string(goroot)), "LICENSE")}}}
	for _, m := range byPath {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

func (p program) packages(arch string) ([]listed, error) {
	out, err := output([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch},
		"go", "list", "-deps", "-tags", p.tags, "-json=Dir,Standard,Module", p.pkg)
	if err != nil {
		return nil, err
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, pkg)
	}
}

var accompanying = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([-.].*)?$`)

// collect takes the files in the package's directory and in each one above it, up to the module's own: code
// taken from elsewhere has its licence beside it.
func (m *module) collect(dir, top string) error {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.Type().IsRegular() && accompanying.MatchString(e.Name()) && filepath.Ext(path) != ".go" && !slices.Contains(m.files, path) {
				m.files = append(m.files, path)
			}
		}
		if dir == top {
			slices.Sort(m.files)
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func output(environ []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	return out, nil
}
