package checks

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/doctable"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

var update = flag.Bool("update", false, "write the examples into the documentation")

// The READMEs show the task definition that stands in examples: go test ./internal/suite/checks -update
func TestREADME_ShowsTheTaskDefinition(t *testing.T) {
	const name = "fargate.json"
	example := "```json\n" + testenv.Read(t, "../../../examples/taskdef/fargate.json") + "```\n"
	for _, path := range []string{"../../../README.md", "../../../README.ja.md"} {
		if *update {
			if err := doctable.Write(path, name, example); err != nil {
				t.Fatal(err)
			}
		}
		if err := doctable.Compare(path, name, example); err != nil {
			t.Errorf("%v than examples/taskdef: run go test ./internal/suite/checks -update", err)
		}
	}
}

// What the documentation copies out of the sidecar's image, the Dockerfile puts there.
func TestImage_HasWhatTheDocumentationCopies(t *testing.T) {
	dockerfile := testenv.Read(t, "../../../Dockerfile")
	if !strings.Contains(dockerfile, "FROM scratch AS sidecar\nCOPY --from=build-sidecar /image/sidecar/ /\n") {
		t.Error("the sidecar's image is not what is in /image/sidecar")
	}
	copied := copyFrom.FindAllStringSubmatch(testenv.Read(t, "../../../docs/configuration.md"), -1)
	if len(copied) != 2 {
		t.Errorf("%d lines copy from the image, want the binary and the certificates", len(copied))
	}
	for _, m := range copied {
		whole, folder := " /image/sidecar"+m[1]+" ", " /image/sidecar"+path.Dir(m[1])+"/ "
		if !strings.Contains(dockerfile, whole) && !strings.Contains(dockerfile, folder) {
			t.Errorf("nothing puts %s into the image", m[1])
		}
	}
}

// The kernel shows environment and memory of a process to others of its user if that user may read its program.
func TestDockerfile_ProgramsWithSecretsCannotBeRead(t *testing.T) {
	dockerfile := testenv.Read(t, "../../../Dockerfile")
	for _, program := range []string{"/image/sidecar/sidecar", "/image/consumer/consumer"} {
		if !strings.Contains(dockerfile, program+" \\\n\t&& chmod 0111 "+program+" \\\n") {
			t.Errorf("%s is not made with mode 0111", program)
		}
	}
	for line := range strings.Lines(dockerfile) {
		if strings.HasPrefix(line, "COPY --from=build-") && strings.Contains(line, "--ch") {
			t.Errorf("the programs are root's, and keep their mode: %s", line)
		}
	}
}

var copyFrom = regexp.MustCompile(`(?m)^COPY --from=\S+/snowkey-sidecar@sha256:DIGEST (\S+) \S+$`)

// What a page links to in the repository exists.
func TestLinks_LeadSomewhere(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"../../../*.md", "../../../docs/*.md", "../../../examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	checked := 0
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(testenv.Read(t, page), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			checked++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d links were found", checked)
	}
}
