//go:build release

// Package release has tests only: make release is run twice, as different builders would, and what it
// makes is compared with what it says of itself.
package release

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	version  = "v0.0.0-test"
	revision = "0123456789abcdef0123456789abcdef01234567"
)

var architectures = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func TestRelease(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dist := filepath.Join(t.TempDir(), "dist")
	release(t, root, dist)

	t.Run("another directory and build cache give the same bytes", func(t *testing.T) {
		copied := filepath.Join(t.TempDir(), "of another length", "snowkey")
		copySources(t, root, copied)
		again := filepath.Join(t.TempDir(), "dist")
		release(t, copied, again, "RELEASE_GOCACHE="+t.TempDir(), "TZ=Asia/Tokyo", "LC_ALL=C",
			"GOFLAGS=-buildvcs=auto", "GOAMD64=v3", "CGO_ENABLED=1")
		first, second := sums(t, dist), sums(t, again)
		for name, sum := range first {
			if second[name] != sum {
				t.Errorf("%s is %s and %s", name, sum, second[name])
			}
			t.Logf("%s  %s", sum, name)
		}
		if len(first) != len(second) {
			t.Errorf("%d and %d files", len(first), len(second))
		}
	})
	t.Run("checksums", func(t *testing.T) { checkSums(t, dist) })
	for arch, machine := range architectures {
		binary := filepath.Join(dist, "sidecar_"+version+"_linux_"+arch)
		t.Run("binary for "+arch, func(t *testing.T) { checkBinary(t, root, binary, arch, machine) })
		t.Run("SBOM for "+arch, func(t *testing.T) { checkSBOM(t, binary) })
		t.Run("licences for "+arch, func(t *testing.T) { checkLicences(t, dist, binary) })
	}
}

func TestRelease_RefusesUncommittedFiles(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "../../../scripts/release/release.sh", t.TempDir())
	cmd.Env = append(os.Environ(), "VERSION=v1.0.0-dirty", "REVISION="+revision)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "commit them first") {
		t.Errorf("%v\n%s", err, out)
	}
}

func release(t *testing.T, root, dist string, environ ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts/release/release.sh"), dist)
	cmd.Env = append(append(os.Environ(), "VERSION="+version, "REVISION="+revision), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// copySources copies what git knows of, and nothing else.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = from
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // deleted, but not yet in a commit
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// sums are the hashes of what is in a directory.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		sum := sha256.Sum256(read(t, filepath.Join(dir, e.Name())))
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all
}

func checkSums(t *testing.T, dist string) {
	want := sums(t, dist)
	delete(want, "SHA256SUMS")
	for line := range strings.Lines(string(read(t, filepath.Join(dist, "SHA256SUMS")))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if want[name] != sum {
			t.Errorf("SHA256SUMS has %s for %q, which is %s", sum, name, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("SHA256SUMS lacks %s", name)
	}
}

func checkBinary(t *testing.T, root, path, arch string, machine elf.Machine) {
	info := build(t, path)
	if want := toolchain(t, root) + "-X:runtimesecret"; info.GoVersion != want {
		t.Errorf("built by %s, not by go.mod's, with the experiment of docs/secret-hygiene.md: %s", info.GoVersion, want)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["-trimpath"] != "true" || settings["CGO_ENABLED"] != "0" || settings["GOARCH"] != arch || settings["vcs.revision"] != "" {
		t.Errorf("built with %v", settings)
	}
	binary, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	if libraries, err := binary.ImportedLibraries(); binary.Machine != machine || err != nil || len(libraries) > 0 {
		t.Errorf("for %v, needs %v, %v", binary.Machine, libraries, err)
	}
	data := read(t, path)
	directories, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range append(strings.Fields(string(directories)), root) {
		if i := bytes.Index(data, []byte(of+"/")); i >= 0 {
			t.Errorf("it has a path of the machine that built it: %.80q", data[i:])
		}
	}
	if arch == runtime.GOARCH {
		out, err := exec.CommandContext(t.Context(), path, "version").Output()
		if err != nil || !strings.Contains(string(out), version+" ("+revision+")") {
			t.Errorf("it says %q, %v", out, err)
		}
	}
}

type component struct {
	Name, Version string
	Evidence      struct{ Licenses []any }
}

// The SBOM lists what the linker put into the binary, that and nothing else, under its hash.
func checkSBOM(t *testing.T, binary string) {
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component  component
			Properties []struct{ Name, Value string }
		}
		Components []component
	}
	if err := json.Unmarshal(read(t, binary+".cdx.json"), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.Metadata.Component.Version != version {
		t.Errorf("%s %s of %v", bom.BOMFormat, bom.SpecVersion, bom.Metadata.Component)
	}
	sum := sums(t, filepath.Dir(binary))[filepath.Base(binary)]
	named := false
	for _, p := range bom.Metadata.Properties {
		named = named || p.Name == "cdx:gomod:binary:hash:SHA-256" && p.Value == sum
	}
	if !named {
		t.Errorf("it does not name the binary's hash %s", sum)
	}
	info := build(t, binary)
	want := []string{"std " + info.GoVersion}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
		if c.Name != "std" && len(c.Evidence.Licenses) == 0 {
			t.Errorf("no licence for %s", c.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("it lists\n%s\nwhere the binary has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func checkLicences(t *testing.T, dist, binary string) {
	text := string(read(t, filepath.Join(dist, "THIRD_PARTY_LICENSES.txt")))
	for _, m := range build(t, binary).Deps {
		if !strings.Contains(text, "\n"+m.Path+" "+m.Version+": ") {
			t.Errorf("no licence for %s %s", m.Path, m.Version)
		}
	}
}

func build(t *testing.T, binary string) *buildinfo.BuildInfo {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 10 {
		t.Fatalf("only %d modules in %s", len(info.Deps), binary)
	}
	return info
}

var toolchainLine = regexp.MustCompile(`(?m)^toolchain (.*)$`)

func toolchain(t *testing.T, root string) string {
	t.Helper()
	m := toolchainLine.FindSubmatch(read(t, filepath.Join(root, "go.mod")))
	if m == nil {
		t.Fatal("go.mod names no toolchain")
	}
	return string(m[1])
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
