//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// TestPod follows a pod's life.
func TestPod(t *testing.T) {
	testenv.Slow(t)
	n := needNode(t)
	for _, c := range podCases {
		t.Run(c.name, func(t *testing.T) { live(t, n, c) })
	}
}

func live(t *testing.T, n *node, c podCase) {
	f := &fixture{podCase: c, pod: startPod(t, n, c.pod, c.manifest(t))}
	t.Cleanup(func() {
		if f.cloud == nil {
			return
		}
		if t.Failed() {
			t.Log(f.cloud.LastWords())
		}
		if err := f.cloud.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"the application starts once the sidecar has a key", startInOrder},
		{"the volume is a tmpfs of the size that the manifest has, and read-only for the application", mounts},
		{"the key is for the volume's group, and nobody else", owners},
		{"nothing runs as root, with a capability or a writable root", unprivileged},
		{"doctor finds nothing wrong", doctor},
		{"a rotation fails no query", rotation},
		{"the kubelet restarts a sidecar that was killed, and queries go on", killed},
		{"without a key file the pod is not ready, the kubelet restarts the sidecar, and queries go on", keyLost},
		{"a volume without room keeps the old key, and the log says what to do", full},
		{"a rotation after all that", rotation},
		{"the application ends before the sidecar, and the volume goes with the pod", termination},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, f) }) {
			t.FailNow()
		}
	}
}

// A fixture is the pod, and what is around it.
type fixture struct {
	podCase
	pod   *pod
	cloud *process.Process
}

// startCloud makes the first key, too.
func (f *fixture) startCloud(t *testing.T) {
	t.Helper()
	cmd := exec.Command(filepath.Join(f.pod.node.work, "localcloud"),
		"-ssm=0.0.0.0:4566", "-snowflake=0.0.0.0:8085", "-login-latency=100ms", "-query-latency=5ms",
		"-key-parameter=/app/key", "-passphrase-parameter=/app/passphrase")
	cmd.Env = os.Environ()
	cloud, err := process.Start("localcloud", cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.cloud = cloud
}

var madeKey = regexp.MustCompile(`^/app/key version \d+ is (SHA256:\S+)`)

// keys are the fingerprints of the keys that the cloud has made.
func (f *fixture) keys() (keys []string) {
	for _, line := range f.cloud.Lines(0) {
		if m := madeKey.FindStringSubmatch(line); m != nil {
			keys = append(keys, m[1])
		}
	}
	return keys
}

// rotate has the cloud make a key, and returns its fingerprint.
func (f *fixture) rotate(t *testing.T) string {
	t.Helper()
	before := len(f.keys())
	if err := f.cloud.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "another key", func() bool { return len(f.keys()) > before })
	return f.keys()[before]
}

func startInOrder(t *testing.T, f *fixture) {
	f.pod.eventually(t, "a sidecar that runs", func(s *podState) bool {
		return s.container("sidecar").State.Running != nil
	})
	sidecar := f.pod.log(t, "sidecar")
	testenv.Eventually(t, "the sidecar says that it has no key", func() bool {
		_, found := sidecar.find(t, time.Time{}, `"level":"ERROR"`)
		return found
	})
	// Some more probes fail meanwhile.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s := f.pod.state(t)
		c := s.container("app")
		if c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing" || c.ContainerID != "" {
			t.Fatalf("without a key, the application's container is %+v", c)
		}
		if c := s.container("sidecar"); c.Ready || c.Started == nil || *c.Started || s.is("Ready") {
			t.Fatalf("without a key, the pod is ready, or the sidecar has started: %+v", s)
		}
	}

	before := time.Now()
	f.startCloud(t)
	s := f.pod.eventually(t, "a pod that is ready", func(s *podState) bool { return s.is("Ready") })
	c := s.container("sidecar")
	if c.Started == nil || !*c.Started || !c.Ready || c.RestartCount != 0 {
		t.Errorf("the sidecar is %+v", c)
	}
	published, found := sidecar.find(t, before, `"msg":"key published"`)
	if !found {
		t.Fatal("the sidecar does not say that it has published a key")
	}
	// The kubelet's times are whole seconds.
	if started := s.container("app").State.Running.StartedAt; started.Before(published.at.Truncate(time.Second)) {
		t.Errorf("the application started at %v, and the key was published at %v", started, published.at)
	}
	f.pod.goesOn(t)
}

var mountOptions = regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ ` + keyDir + ` (\S+) .*- tmpfs \S+ (\S+)$`)

func mounts(t *testing.T, f *fixture) {
	for container, writable := range map[string]string{"sidecar": "rw", "app": "ro"} {
		info := f.pod.proc(t, container, "mountinfo")
		m := mountOptions.FindStringSubmatch(info)
		if m == nil {
			t.Fatalf("%s has no tmpfs at %s:\n%s", container, keyDir, info)
		}
		if got, _, _ := strings.Cut(m[1], ","); got != writable {
			t.Errorf("%s: the mount is %s, not %s", container, m[1], writable)
		}
		if !strings.Contains(","+m[2]+",", ",size=1024k,") {
			t.Errorf("%s: the options of the volume, %s, do not have the manifest's limit", container, m[2])
		}
	}
	device := func(container string) uint64 {
		info, err := os.Stat(filepath.Join("/proc", fmt.Sprint(f.pod.pid(t, container)), "root", keyDir))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Dev
	}
	if a, b := device("sidecar"), device("app"); a != b {
		t.Errorf("the containers have different volumes: devices %d and %d", a, b)
	}
}
