package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/snowkey/snowkey/internal/local/localssm"
)

// runs of each command, of which the median counts.
const runs = 3

// measureInstructions counts those of whole runs of the sidecar: of its start, of a start until the key is on
// disk, with Parameter Store on this machine, and of a health check.
//
// Valgrind counts, which shows the program much the same processor on every machine. A processor's own counters
// are hidden from most virtual machines, and go up with what else happens on it.
func measureInstructions(ctx context.Context, p programs) (m measured, err error) {
	m.conditions = p.conditions
	if err := p.runHere(); err != nil {
		return m, err
	}
	if err := exec.CommandContext(ctx, "valgrind", "--version").Run(); err != nil {
		return m, cannotError{fmt.Errorf("valgrind does not run: %w; apt-get install valgrind", err)}
	}
	key, err := os.ReadFile("sidecar/internal/decrypt/testdata/aes256.p8")
	if err != nil {
		return m, err
	}
	ssm := localssm.New()
	ssm.Put("/app/key", string(key))
	ssm.Put("/app/passphrase", "correct horse 電池") // of everything encrypted there
	server := httptest.NewServer(ssm)
	defer server.Close()
	t := task{program: p.path("sidecar"), dir: filepath.Join(p.dir, "run"), ssm: server.URL}
	for _, command := range []string{"version", "once", "healthcheck"} {
		var counts []int64
		for range runs {
			n, err := t.count(ctx, command)
			if err != nil {
				return m, fmt.Errorf("sidecar %s: %w", command, err)
			}
			counts = append(counts, n)
		}
		slices.Sort(counts)
		m.figures = append(m.figures, figure{counts[runs/2], "instructions", "sidecar " + command})
	}
	return m, nil
}

// A task is a sidecar with its settings.
type task struct{ program, dir, ssm string }

var references = regexp.MustCompile(`I +refs: +([\d,]+)`)

// count runs a command to its end and gives its instructions. `once` has no key on disk, and `healthcheck`
// has the one of `once`.
func (t task) count(ctx context.Context, command string) (int64, error) {
	if command == "once" {
		if err := os.RemoveAll(t.dir); err != nil {
			return 0, err
		}
		if err := os.Mkdir(t.dir, 0o750); err != nil {
			return 0, err
		}
	}
	log := t.program + ".valgrind"
	cmd := exec.CommandContext(ctx, "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
		"--log-file="+log, t.program, command)
	cmd.Env = t.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		said, _ := os.ReadFile(log)
		return 0, fmt.Errorf("%w\n%s%s", err, out, said)
	}
	said, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	found := references.FindSubmatch(said)
	if found == nil {
		return 0, errors.New("valgrind gives no count:\n" + string(said))
	}
	return number(found[1]), nil
}

// environ takes away what makes one run differ from another, so that what is left are hash seeds, some half a
// percent: threads beside each other, collections of garbage, of which one more or less would be a
// leap that means nothing where what is allocated is a figure of its own, and instructions that some processors
// have. Nothing of this process is in it.
func (t task) environ() []string {
	return []string{
		"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1,cpu.sha=off,cpu.avx512f=off",
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", // for valgrind
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_SSM=" + t.ssm,
		"SNOWKEY_KEY_PARAMETER=/app/key", "SNOWKEY_PASSPHRASE_PARAMETER=/app/passphrase", "SNOWKEY_DIR=" + t.dir,
	}
}
