//go:build kubernetes

package kubernetes

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

const keyDir = "/run/snowflake"

// A pod is a static one, whose manifest the kubelet finds in its directory.
type pod struct {
	node     *node
	name     string // as the kubelet calls it
	manifest string
}

// A podState is what the kubelet says of a pod, as far as it matters here.
type podState struct {
	Metadata struct{ Name, UID string }
	Status   struct {
		Phase                 string
		PodIP                 string
		Conditions            []struct{ Type, Status string }
		InitContainerStatuses []containerState
		ContainerStatuses     []containerState
	}
}

type containerState struct {
	Name, ContainerID string
	Ready             bool
	Started           *bool
	RestartCount      int
	State, LastState  struct {
		Waiting    *struct{ Reason string }
		Running    *struct{ StartedAt time.Time }
		Terminated *struct {
			ExitCode              int
			Reason                string
			StartedAt, FinishedAt time.Time
		}
	}
}

// startPod hands a manifest to the kubelet.
func startPod(t *testing.T, n *node, name string, manifest []byte) *pod {
	t.Helper()
	p := &pod{node: n, name: name + "-" + nodeName, manifest: filepath.Join(manifestDir, name+".yaml")}
	// The kubelet reads every file in the directory, so that this one arrives complete.
	temp := filepath.Join("/run", name+".yaml")
	if err := os.WriteFile(temp, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, p.manifest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(p.manifest) })
	return p
}

// state is nil once the kubelet has forgotten the pod.
func (p *pod) state(t *testing.T) *podState {
	t.Helper()
	var all struct{ Items []podState }
	if err := get(t.Context(), "http://127.0.0.1:10255/pods", &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Items {
		if s.Metadata.Name == p.name {
			return &s
		}
	}
	return nil
}

// is reports whether a condition of the pod's is true.
func (s *podState) is(condition string) bool {
	for _, c := range s.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

func (s *podState) container(name string) containerState {
	for _, c := range append(s.Status.InitContainerStatuses, s.Status.ContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return containerState{}
}

// eventually waits for a state of the pod.
func (p *pod) eventually(t *testing.T, what string, reached func(*podState) bool) *podState {
	t.Helper()
	var s *podState
	for end := time.Now().Add(timeout); ; time.Sleep(100 * time.Millisecond) {
		s = p.state(t)
		if s != nil && reached(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s; the kubelet says %+v", timeout, what, s)
		}
	}
}

// id is containerd's name for a container.
func (p *pod) id(t *testing.T, container string) string {
	t.Helper()
	_, id, _ := strings.Cut(p.state(t).container(container).ContainerID, "://")
	return id
}

// pid is the process of a container.
func (p *pod) pid(t *testing.T, container string) int {
	t.Helper()
	id := p.id(t, container)
	out, err := ctr(t.Context(), "tasks", "list")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == id {
			pid, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("containerd does not run %s, which is %q:\n%s", container, id, out)
	return 0
}

// exec runs a command in a container, as the container's user.
func (p *pod) exec(t *testing.T, container string, args ...string) (string, error) {
	t.Helper()
	name := "test-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	return ctr(t.Context(), append([]string{"tasks", "exec", "--exec-id", name, p.id(t, container)}, args...)...)
}

// proc reads a file about the process of a container.
func (p *pod) proc(t *testing.T, container, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid(t, container), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// volume is where the kubelet has mounted the volume for the key.
func (p *pod) volume(t *testing.T) string {
	t.Helper()
	uid := p.state(t).Metadata.UID
	return filepath.Join("/var/lib/kubelet/pods", uid, "volumes/kubernetes.io~empty-dir/snowflake-key")
}

// A logFile is what a container prints. It stays readable when the kubelet has removed the pod.
type logFile struct{ files []*os.File }

// log opens the files of all starts of a container so far.
func (p *pod) log(t *testing.T, container string) *logFile {
	t.Helper()
	paths, err := filepath.Glob("/var/log/pods/default_" + p.name + "_*/" + container + "/*.log")
	if err != nil || len(paths) == 0 {
		t.Fatalf("log of %s: %v, %v", container, paths, err)
	}
	l := &logFile{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		l.files = append(l.files, f)
	}
	return l
}

// A logLine has the time at which containerd read it.
type logLine struct {
	at   time.Time
	text string
}

// lines are all that was printed so far.
func (l *logFile) lines(t *testing.T) (lines []logLine) {
	t.Helper()
	for _, f := range l.files {
		text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4) // time, stream, whether it is whole, text
			if len(fields) < 4 {
				continue
			}
			at, err := time.Parse(time.RFC3339Nano, fields[0])
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, logLine{at, fields[3]})
		}
	}
	return lines
}

// find returns the first line after a time that has all of the pieces.
func (l *logFile) find(t *testing.T, after time.Time, pieces ...string) (logLine, bool) {
	t.Helper()
next:
	for _, line := range l.lines(t) {
		if line.at.Before(after) {
			continue
		}
		for _, piece := range pieces {
			if !strings.Contains(line.text, piece) {
				continue next
			}
		}
		return line, true
	}
	return logLine{}, false
}

var (
	answered = regexp.MustCompile(`msg=answered .*fingerprint="?(SHA256:[A-Za-z0-9+/=]+)`)
	failed   = regexp.MustCompile(`msg="query failed"|panic:`)
)

// answers are the fingerprints of the keys with which queries were answered since a time. A query that failed fails the
// test.
func (p *pod) answers(t *testing.T, since time.Time) (keys []string) {
	t.Helper()
	for _, line := range p.log(t, "app").lines(t) {
		if failed.MatchString(line.text) {
			t.Fatalf("a query failed: %s", line.text)
		}
		if m := answered.FindStringSubmatch(line.text); m != nil && !line.at.Before(since) {
			keys = append(keys, m[1])
		}
	}
	return keys
}

// goesOn waits for some more answers.
func (p *pod) goesOn(t *testing.T) {
	t.Helper()
	since := time.Now()
	testenv.Eventually(t, "more answers", func() bool { return len(p.answers(t, since)) >= 20 })
}
