package main

import (
	"os"
	"testing"

	"github.com/snowkey/snowkey/internal/suite/manifests"
	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// The sidecar and the rotation take the environment and the arguments that the manifests give them.
func TestManifests_AreValidSettings(t *testing.T) {
	for name, container := range map[string]string{"pod.yaml": "sidecar", "base/deployment.yaml": "sidecar", "base/rotate.yaml": "rotate"} {
		text, err := os.ReadFile("../examples/kubernetes/" + name)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := manifests.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		pod, err := objects[0].Pod()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range pod.Spec.All() {
			if c.Name != container {
				continue
			}
			found = true
			var environ []string
			for _, v := range c.Env {
				value := v.Value
				if v.Name == "SNOWFLAKE_USER" {
					value = "X" // stands for a name
				}
				environ = append(environ, v.Name+"="+value)
			}
			load := loadSettings
			if container == "rotate" {
				load = func(environ []string) error {
					cmd := rotateCommand(nil)
					if c.Args[0] != cmd.Name() {
						t.Fatalf("%s: command %v", name, c.Args)
					}
					if err := cmd.ParseFlags(c.Args[1:]); err != nil {
						return err
					}
					return config.Load(new(config.RotateConfig), cmd.Flags(), environ)
				}
			}
			if err := load(environ); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if load(append(environ, "SNOWKEY_KEY_PARAMETR=/app/key")) == nil {
				t.Errorf("%s: a variable that does not exist was not noticed", name)
			}
		}
		if !found {
			t.Errorf("%s has no container %s", name, container)
		}
	}
}
