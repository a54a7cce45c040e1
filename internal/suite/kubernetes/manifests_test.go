//go:build kubernetes

package kubernetes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	examples = "../../../examples/kubernetes"

	// checkerPath is the program of the module upstream; make test-kubernetes makes it.
	checkerPath = "../../../.cache/kubernetes/upstream"
)

// rendered holds the objects of a kustomization or file to Kubernetes' own code, and returns them.
func rendered(ctx context.Context, path string) (string, error) {
	checker, err := filepath.Abs(checkerPath)
	if err != nil {
		return "", err
	}
	return command(ctx, checker, path)
}

// needChecker skips a test without the program that checks manifests, or fails it where nothing may be missing.
func needChecker(t *testing.T) {
	t.Helper()
	_, err := os.Stat(checkerPath)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_KUBELET") != "":
		t.Fatalf("%v: make test-kubernetes makes it", err)
	default:
		t.Skipf("%v: make test-kubernetes makes it", err)
	}
}

// TestManifests is for the example's kustomizations, each with every component, and for the manifests here.
func TestManifests(t *testing.T) {
	needChecker(t)
	copied := filepath.Join(t.TempDir(), "kubernetes")
	if err := os.CopyFS(copied, os.DirFS(examples)); err != nil {
		t.Fatal(err)
	}
	paths := []string{
		"testdata/pod.yaml", "testdata/example", filepath.Join(examples, "pod.yaml"), filepath.Join(examples, "base"),
	}
	overlays := directories(t, "overlays")
	paths = append(paths, overlays...)
	for _, component := range directories(t, "components") {
		for _, overlay := range overlays {
			paths = append(paths, withComponent(t, copied, filepath.Base(overlay), filepath.Base(component)))
		}
	}
	for _, path := range paths {
		if _, err := rendered(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
}

func directories(t *testing.T, kind string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(examples, kind, "*"))
	if err != nil || len(found) < 2 {
		t.Fatalf("%s of the example: %v, %v", kind, found, err)
	}
	return found
}

// withComponent makes a kustomization of an overlay and a component, in a copy of the example.
func withComponent(t *testing.T, copied, overlay, component string) string {
	t.Helper()
	dir := filepath.Join(copied, overlay+"-with-"+component)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("resources: [../overlays/%s]\ncomponents: [../components/%s]\n", overlay, component)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Each way in which an API server refuses an object is tried once.
func TestManifests_MistakesAreNoticed(t *testing.T) {
	needChecker(t)
	right, err := os.ReadFile("testdata/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ replace, by, says string }{
		"a field that does not exist": {
			"sizeLimit:", "sizelimit:",
			`unknown field "spec.volumes[0].emptyDir.sizelimit"`,
		},
		"a field of the wrong kind": {
			"periodSeconds: 1", "periodSeconds: 1s",
			"cannot unmarshal",
		},
		"a field that is there twice": {
			"  enableServiceLinks: false", "  enableServiceLinks: false\n  enableServiceLinks: true",
			"already set",
		},
		"a probe of a plain init container": {
			"      restartPolicy: Always", "      # none",
			"may not be set for init containers without restartPolicy=Always",
		},
		"a volume that does not exist": {
			"{name: snowflake-key, mountPath: /run/snowflake, readOnly: true}", "{name: key, mountPath: /run/snowflake}",
			"Not found",
		},
		"a pod that is not restricted": {
			"drop: [ALL]", "drop: [KILL]",
			"unrestricted capabilities",
		},
		"a name that no object can have": {
			"name: any-users\n  namespace", "name: Any\n  namespace",
			"lowercase RFC 1123",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.ReplaceAll(string(right), c.replace, c.by)
			if text == string(right) {
				t.Fatalf("testdata/pod.yaml does not have %q", c.replace)
			}
			path := filepath.Join(t.TempDir(), "pod.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := rendered(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("not noticed: %v", err)
			}
		})
	}
}
