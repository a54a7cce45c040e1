//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	project = "snowkey-e2e"
	network = project + "_default"
	// patience is for what takes a second or two on an idle machine.
	patience = 60 * time.Second
)

// command runs a program from the repository's root, and gives both of its outputs.
func command(ctx context.Context, environ []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// compose is the program that COMPOSE names: "docker compose" or docker-compose.
func compose(ctx context.Context, args ...string) (string, error) {
	return composeWith(ctx, composeEnviron, args...)
}

func composeWith(ctx context.Context, environ []string, args ...string) (string, error) {
	program := strings.Fields(os.Getenv("COMPOSE"))
	if len(program) == 0 {
		program = []string{"docker-compose"}
	}
	return command(ctx, environ, program[0], append(program[1:], args...)...)
}

var composeEnviron = []string{
	"COMPOSE_PROJECT_NAME=" + project, "COMPOSE_PROFILES=python",
	"QUERY_INTERVAL=50ms", "QUERY_WORKERS=4", // a load, where the file has what a person can read
}

func mustCompose(t *testing.T, args ...string) string {
	t.Helper()
	out, err := compose(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), nil, "docker", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// remove is docker rm and the like at a test's end: the test's own context is over by then.
func remove(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := command(context.Background(), nil, "docker", args...); err != nil {
			t.Error(err)
		}
	})
}

// A container is one of the engine's, by its id.
type container struct{ id string }

func service(t *testing.T, name string) container {
	t.Helper()
	id := strings.TrimSpace(mustCompose(t, "ps", "-q", name))
	if id == "" {
		t.Fatalf("there is no container of the service %s", name)
	}
	return container{id}
}

// What `docker inspect` says of a container, as far as it matters here.
type inspection struct {
	Name  string
	State struct {
		Status    string
		Pid       int
		ExitCode  int
		StartedAt time.Time
		Health    struct{ Status string }
	}
	RestartCount int
}

func (c container) inspect(t *testing.T) inspection {
	t.Helper()
	var all []inspection
	if err := json.Unmarshal([]byte(docker(t, "inspect", c.id)), &all); err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func (c container) healthy(t *testing.T) bool { return c.inspect(t).State.Health.Status == "healthy" }

// becameHealthy is when it first did so since its start. The engine keeps the last few hundred events.
func (c container) becameHealthy(t *testing.T) time.Time {
	t.Helper()
	events := docker(t, "events", "--since", c.inspect(t).State.StartedAt.Format(time.RFC3339Nano),
		"--until", time.Now().Format(time.RFC3339Nano), "--filter", "container="+c.id, "--filter", "event=health_status",
		"--format", "{{.TimeNano}} {{.Action}}")
	for line := range strings.Lines(events) {
		nano, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, err := strconv.ParseInt(nano, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if status == "health_status: healthy" {
			return time.Unix(0, at)
		}
	}
	t.Fatalf("the engine does not say when it became healthy, but %q", events)
	return time.Time{}
}

// lines are what the container has printed so far.
func (c container) lines(t *testing.T) []string {
	t.Helper()
	out := docker(t, "logs", c.id)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

func (c container) says(t *testing.T, texts ...string) {
	t.Helper()
	var said string
	complete := func() bool {
		said = strings.Join(c.lines(t), "\n")
		for _, text := range texts {
			if !strings.Contains(said, text) {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(patience); !complete(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not have all of %q:\n%s", texts, said)
		}
	}
}

// exec runs a command in the container and reports whether it succeeds.
func (c container) exec(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return command(t.Context(), nil, "docker", append([]string{"exec", c.id}, args...)...)
}

// proc reads a file of the container's first process.
func (c container) proc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.inspect(t).State.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pipe gives what a docker command prints to read.
func pipe(t *testing.T, read func(*bytes.Buffer) error, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	if err := read(&stdout); err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
}
