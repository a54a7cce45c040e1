//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An image is what `docker image inspect` says of one, as far as it matters here.
type image struct {
	Architecture string
	Config       struct {
		User       string
		Entrypoint []string
		Volumes    map[string]any
		Labels     map[string]string
	}
}

func inspectImage(t *testing.T, name string) image {
	t.Helper()
	var all []image
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", name)), &all); err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func TestImages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sidecar", "consumer", "localcloud"} {
		i := inspectImage(t, "snowkey-"+name)
		if i.Config.User != "65532:65532" || !slices.Equal(i.Config.Entrypoint, []string{"/" + name}) {
			t.Errorf("%s runs %v as %s", name, i.Config.Entrypoint, i.Config.User)
		}
		const prefix = "org.opencontainers.image."
		for label, want := range map[string]string{
			"title": "snowkey " + name, "licenses": "Apache-2.0", "version": os.Getenv("VERSION"), "revision": os.Getenv("REVISION"),
		} {
			if got := i.Config.Labels[prefix+label]; got != want {
				t.Errorf("%s has the label %s=%q, want %q", name, label, got, want)
			}
		}
		if i.Config.Labels[prefix+"description"] == "" {
			t.Errorf("%s has no description", name)
		}
	}
	if _, ok := inspectImage(t, "snowkey-sidecar").Config.Volumes[keyDirectory]; !ok {
		t.Errorf("the sidecar's image does not declare %s", keyDirectory)
	}
	said := docker(t, "run", "--rm", "snowkey-sidecar", "version")
	if version := os.Getenv("VERSION"); version != "" && !strings.Contains(said, version+" ("+os.Getenv("REVISION")+")") {
		t.Errorf("the sidecar says it is %s", said)
	}
}

// On scratch there is nothing but what the Dockerfile puts there: no shell, no package manager.
func TestImage_HasNothingElse(t *testing.T) {
	t.Parallel()
	const (
		certificates = "etc/ssl/certs/ca-certificates.crt"
		license      = "licenses/LICENSE"
		thirdParty   = "licenses/THIRD_PARTY_LICENSES.txt"
	)
	for name, want := range map[string][]string{
		"sidecar":    {certificates, license, thirdParty, "run/snowflake/ -rwxr-x--- 65532:65532", "sidecar ---x--x--x 0:0"},
		"consumer":   {"consumer ---x--x--x 0:0", certificates, license, thirdParty},
		"localcloud": {license, thirdParty, "localcloud -rwxr-xr-x 0:0"},
	} {
		id := docker(t, "create", "snowkey-"+name)
		remove(t, "rm", "--volumes", id)
		pipe(t, func(out *bytes.Buffer) error {
			has, err := contents(out)
			if !slices.Equal(has, want) {
				t.Errorf("%s has %q, want %q", name, has, want)
			}
			return err
		}, "export", id)
	}
}

// contents are the files of an exported container and the key's directory, without what the engine puts into each.
// Programs and the directory have mode and owner.
func contents(export io.Reader) (all []string, err error) {
	engines := []string{".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}
	for archive := tar.NewReader(export); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(all)
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		mode := header.FileInfo().Mode().Perm()
		file := header.Typeflag != tar.TypeDir && !slices.Contains(engines, header.Name)
		switch {
		case file && mode&0o111 == 0:
			all = append(all, header.Name)
		case file, header.Name == strings.TrimPrefix(keyDirectory, "/")+"/":
			all = append(all, fmt.Sprintf("%s %v %d:%d", header.Name, mode, header.Uid, header.Gid))
		}
	}
}

// The image holds the program that scripts/build.sh makes outside of it, with the licences that go with it.
func TestImage_HasTheReleasedProgram(t *testing.T) {
	t.Parallel()
	built := filepath.Join(t.TempDir(), "sidecar")
	cmd := exec.CommandContext(t.Context(), "scripts/build.sh", "./sidecar", inspectImage(t, "snowkey-sidecar").Architecture, built)
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := docker(t, "create", "snowkey-sidecar")
	remove(t, "rm", "--volumes", id)
	copied := t.TempDir()
	for in, outside := range map[string]string{
		"/sidecar":                           built,
		"/licenses/LICENSE":                  "../../../LICENSE",
		"/licenses/THIRD_PARTY_LICENSES.txt": "../../../licenses/sidecar.txt",
	} {
		path := filepath.Join(copied, filepath.Base(in))
		docker(t, "cp", id+":"+in, path)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(outside)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s in the image has %d bytes and is not the same as %s, with %d", in, len(got), outside, len(want))
		}
	}
}

// What a layer's digest depends on besides names, modes and content is times.
func TestImage_LayersHaveNoTimes(t *testing.T) {
	t.Parallel()
	pipe(t, func(out *bytes.Buffer) error {
		entries := 0
		for saved := tar.NewReader(out); ; {
			header, err := saved.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			content, err := io.ReadAll(saved)
			if err != nil {
				return err
			}
			for layer := tar.NewReader(bytes.NewReader(content)); ; entries++ {
				inside, err := layer.Next()
				if err != nil {
					break // the end, or a file beside the layers
				}
				if inside.ModTime.Unix() != 0 {
					t.Errorf("%s: %s is of %v", header.Name, inside.Name, inside.ModTime)
				}
			}
		}
		if entries < 10 {
			t.Errorf("only %d files and directories in the layers", entries)
		}
		return nil
	}, "save", "snowkey-sidecar:latest")
}

// A registry stores, and ECS pulls, each layer through gzip.
func TestImage_SidecarIsSmall(t *testing.T) {
	t.Parallel()
	pipe(t, func(out *bytes.Buffer) error {
		var compressed bytes.Buffer
		zip := gzip.NewWriter(&compressed)
		if _, err := out.WriteTo(zip); err != nil {
			return err
		}
		if err := zip.Close(); err != nil {
			return err
		}
		const most = 5_300_000 // through Go's gzip, which is a little worse than the program
		if n := compressed.Len(); n > most {
			t.Errorf("it has %d bytes compressed, %d at most", n, most)
		}
		return nil
	}, "save", "snowkey-sidecar:latest") // without a tag it would be every version that was ever built here
}

// Another architecture is cross-compiled: nothing of it runs during the build.
func TestImage_ForARM64(t *testing.T) {
	t.Parallel()
	const name = "snowkey-e2e-arm64"
	args := []string{"build", "--quiet", "--platform", "linux/arm64", "--target", "sidecar", "--tag", name,
		"--build-arg", "GO_IMAGE=" + os.Getenv("GO_IMAGE"), "."}
	if _, err := command(t.Context(), []string{"DOCKER_BUILDKIT=1"}, clientWithBuildKit(t), args...); err != nil {
		t.Fatal(err)
	}
	remove(t, "image", "rm", name)
	if i := inspectImage(t, name); i.Architecture != "arm64" {
		t.Errorf("the image is for %s", i.Architecture)
	}
	id := docker(t, "create", "--platform", "linux/arm64", name)
	remove(t, "rm", "--volumes", id)
	path := filepath.Join(t.TempDir(), "sidecar")
	docker(t, "cp", id+":/sidecar", path)
	binary, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	libraries, err := binary.ImportedLibraries()
	if binary.Machine != elf.EM_AARCH64 || err != nil || len(libraries) > 0 {
		t.Errorf("/sidecar is for %v and needs %v, %v", binary.Machine, libraries, err)
	}
}

// clientWithBuildKit is a docker on the PATH that can build for another platform: the newer ones need
// their buildx plugin for it, the older ones have it inside.
func clientWithBuildKit(t *testing.T) string {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		client := filepath.Join(dir, "docker")
		if exec.Command(client, "buildx", "version").Run() == nil {
			return client
		}
		out, err := exec.Command(client, "version", "--format", "{{.Client.Version}}").Output()
		if version := string(out); err == nil && (strings.HasPrefix(version, "19.") || strings.HasPrefix(version, "20.")) {
			return client
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Logf("%s: %v", client, err)
		}
	}
	t.Fatal("no docker on the PATH has BuildKit: install its buildx plugin (Debian: docker.io has it inside)")
	return ""
}
