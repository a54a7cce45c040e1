//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// leaks are the places outside the volume that hold a part of a key.
func (s *stack) leaks(t *testing.T, containers, images []string) []string {
	t.Helper()
	keys := newSearch()
	for _, der := range s.keys {
		keys.key(der)
	}
	var found []string
	look := func(where string, args ...string) {
		form, err := keys.in(strings.NewReader(docker(t, args...))) // on either output: docker logs has two
		if err != nil {
			t.Fatal(err)
		}
		if form != "" {
			found = append(found, where+" has it in "+form)
		}
	}
	for _, id := range containers {
		look("the log of "+id, "logs", id)
		look("docker inspect "+id, "inspect", id)
	}
	for _, image := range images {
		look("docker image inspect "+image, "image", "inspect", image)
		look("docker history "+image, "history", "--no-trunc", image)
		pipe(t, func(out *bytes.Buffer) error {
			inLayers, err := keys.inArchive(out)
			for _, leak := range inLayers {
				found = append(found, image+": "+leak)
			}
			return err
		}, "save", image)
	}
	look("docker volume inspect", "volume", "inspect", project+"_snowflake-key")
	look("docker network inspect", "network", "inspect", network)

	root := docker(t, "info", "--format", "{{.DockerRootDir}}")
	onDisk, err := keys.onDisk(root, s.began)
	if err != nil {
		t.Fatal(err)
	}
	return append(found, onDisk...)
}

func (s *stack) everything() (containers, images []string) {
	images = []string{"snowkey-sidecar", "snowkey-consumer", "snowkey-localcloud", "snowkey-python"}
	for _, c := range s.containers() {
		containers = append(containers, c.id)
	}
	return containers, images
}

func nowhereElse(t *testing.T, s *stack) {
	s.readKey(t)
	if len(s.keys) < 5 {
		t.Errorf("only %d keys were published", len(s.keys))
	}
	containers, images := s.everything()
	for _, leak := range s.leaks(t, containers, images) {
		t.Error(leak)
	}
	// The search does find the key where it belongs.
	keys := newSearch()
	keys.key(s.keys[len(s.keys)-1])
	for _, f := range []keyfile.Format{keyfile.DER, keyfile.PEM} {
		if form, err := keys.inFile(filepath.Join(s.volume, f.FileName())); err != nil || form == "" {
			t.Errorf("%s: not found, %v", f.FileName(), err)
		}
	}
}

// planted leaks the key in every way that nowhereElse looks for.
func planted(t *testing.T, s *stack) {
	const leaky = "snowkey-e2e-leaky"
	pem, err := os.ReadFile(filepath.Join(s.volume, keyfile.PEM.FileName()))
	if err != nil {
		t.Fatal(err)
	}
	leak := func(command string) string {
		id := docker(t, "create", "--env", "SECRET_KEY="+string(pem),
			"--volume", project+"_snowflake-key:"+keyDirectory+":ro", "--entrypoint", "/bin/sh", os.Getenv("GO_IMAGE"),
			"-c", command)
		remove(t, "rm", "--force", "--volumes", id)
		docker(t, "start", id)
		if code := docker(t, "wait", id); code != "0" {
			t.Fatalf("the leaky container ended with %s", code)
		}
		return id
	}
	id := leak("cat " + keyDirectory + "/rsa_key.pem; cp " + keyDirectory + "/rsa_key.der /tmp/stolen")
	onStderr := leak("cat " + keyDirectory + "/rsa_key.pem >&2")
	docker(t, "commit", id, leaky)
	remove(t, "image", "rm", leaky)

	found := strings.Join(s.leaks(t, []string{id, onStderr}, []string{leaky}), "\n")
	for _, want := range []string{
		"the log of " + id, "the log of " + onStderr, "docker inspect " + id, "docker image inspect " + leaky, // an image keeps its container's variables
		leaky + ": ", "stolen has it in DER", "-json.log has it in base64", "config.v2.json has it in base64",
	} {
		if !strings.Contains(found, want) {
			t.Errorf("not found: %s, among\n%s", want, found)
		}
	}
}
