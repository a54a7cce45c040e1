package checks

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// A tag can be moved to other code, a commit cannot. Dependabot updates both the commit and the comment.
var pinned = regexp.MustCompile(`^\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)

func TestWorkflows_PinActionsByCommit(t *testing.T) {
	files, err := filepath.Glob("../../../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			_, action, found := strings.Cut(strings.TrimSpace(line), "uses: ")
			if found && !strings.HasPrefix(action, "./") && !pinned.MatchString(action) {
				t.Errorf("%s: %s is not pinned by commit, with its version after it", file, action)
			}
		}
	}
}

// What the release workflow publishes can be built without it: the files by make release, the image by make image, which
// differ from the workflow's in platforms and signatures alone.
func TestReleaseWorkflow_PublishesWhatMakeBuilds(t *testing.T) {
	workflow := testenv.Read(t, "../../../.github/workflows/release.yml")
	if n := strings.Count(workflow, `make release VERSION="$VERSION" REVISION="$GITHUB_SHA"`); n != 2 {
		t.Errorf("make release is called %d times, not for the image's SBOMs and for the files", n)
	}
	published := regexp.MustCompile(`gh release create .*`).FindAllString(workflow, -1)
	if len(published) != 1 || !strings.HasSuffix(published[0], " dist/*") {
		t.Errorf("it publishes %q", published)
	}
	build := func(text string) []string {
		options := regexp.MustCompile(`--target \S+|--build-arg (VERSION|REVISION)=|SOURCE_DATE_EPOCH=\$\(git log -1 --format=%ct`)
		found := options.FindAllString(text, -1)
		slices.Sort(found)
		return found
	}
	if made, theirs := build(testenv.Read(t, "../../../scripts/containers/image.sh")), build(workflow); len(made) != 4 || !slices.Equal(made, theirs) {
		t.Errorf("make image builds with %q, the workflow with %q", made, theirs)
	}
}

func TestReleaseNotes_AreOfChangelog(t *testing.T) {
	testenv.Slow(t)
	newest := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$`).FindStringSubmatch(testenv.Read(t, "../../../CHANGELOG.md"))
	if newest == nil {
		t.Fatal("CHANGELOG.md has no version")
	}
	notes := func(version string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "../../../scripts/release/notes.sh", version).CombinedOutput()
		return string(out), err
	}
	if text, err := notes("v" + newest[1]); err != nil || len(text) < 100 || strings.Contains(text, "\n## ") {
		t.Errorf("error %v, notes %q", err, text)
	}
	if text, err := notes("v999.0.0"); err == nil || !strings.Contains(text, `"## 999.0.0 - DATE"`) {
		t.Errorf("of a version without a section: error %v, %q", err, text)
	}
}
