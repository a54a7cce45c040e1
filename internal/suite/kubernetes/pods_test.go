//go:build kubernetes

package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A podCase is a pod whose life the tests follow.
type podCase struct {
	name, pod                 string
	manifest                  func(*testing.T) []byte
	sidecarUID, appUID, group int
}

var podCases = []podCase{
	{"the example", "app", examplePod, 65532, 65532, 65532},
	{"users and a group that no image knows", "any-users", anyUsersPod, 1000650000, 1000650001, 1000650002},
}

func anyUsersPod(t *testing.T) []byte {
	t.Helper()
	manifest, err := os.ReadFile("testdata/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// examplePod is that of the example's deployment, as testdata/example changes it.
func examplePod(t *testing.T) []byte {
	t.Helper()
	text, err := rendered(t.Context(), "testdata/example")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := podOfDeployment(text)
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// podOfDeployment is the pod that a deployment makes, as a static one: those have no service account.
func podOfDeployment(objects string) ([]byte, error) {
	for decoder := yaml.NewDecoder(strings.NewReader(objects)); ; {
		var object struct {
			Kind string
			Spec struct {
				Template struct{ Spec map[string]any }
			}
		}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is no deployment among the objects")
		}
		if err != nil {
			return nil, fmt.Errorf("read the objects: %w", err)
		}
		if object.Kind != "Deployment" {
			continue
		}
		spec := object.Spec.Template.Spec
		delete(spec, "serviceAccountName")
		return yaml.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Pod", "spec": spec,
			"metadata": map[string]any{"name": "app", "namespace": "default"},
		})
	}
}
