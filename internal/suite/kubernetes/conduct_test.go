//go:build kubernetes

package kubernetes

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

func owners(t *testing.T, f *fixture) {
	volume := f.pod.volume(t)
	dir, err := os.Stat(volume)
	if err != nil {
		t.Fatal(err)
	}
	// New files get the directory's group. A new tmpfs has the sticky bit.
	if owner := dir.Sys().(*syscall.Stat_t); int(owner.Gid) != f.group || dir.Mode() != fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o777 {
		t.Errorf("the directory has group %d and mode %v", owner.Gid, dir.Mode())
	}
	for _, format := range []keyfile.Format{keyfile.DER, keyfile.PEM} {
		info, err := os.Stat(filepath.Join(volume, format.FileName()))
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if int(owner.Uid) != f.sidecarUID || int(owner.Gid) != f.group || info.Mode() != 0o440 {
			t.Errorf("%s belongs to %d:%d and has mode %v", format.FileName(), owner.Uid, owner.Gid, info.Mode())
		}
	}
	groups := statusField(f.pod.proc(t, "app", "status"), "Groups")
	if !slices.Contains(groups, fmt.Sprint(f.group)) {
		t.Errorf("the application's groups are %v, without the volume's %d", groups, f.group)
	}
}

// statusField are the values of a line in /proc/PID/status.
func statusField(status, name string) []string {
	for line := range strings.Lines(status) {
		if values, found := strings.CutPrefix(line, name+":"); found {
			return strings.Fields(values)
		}
	}
	return nil
}

func unprivileged(t *testing.T, f *fixture) {
	for container, uid := range map[string]int{"sidecar": f.sidecarUID, "app": f.appUID} {
		status := f.pod.proc(t, container, "status")
		id := fmt.Sprint(uid)
		for name, want := range map[string][]string{
			"Uid": {id, id, id, id}, "CapEff": {"0000000000000000"}, "CapBnd": {"0000000000000000"},
			"NoNewPrivs": {"1"}, "Seccomp": {"2"},
		} {
			if got := statusField(status, name); !slices.Equal(got, want) {
				t.Errorf("%s: %s is %v, not %v", container, name, got, want)
			}
		}
		root := mountOf(f.pod.proc(t, container, "mountinfo"), "/")
		if len(root) < 6 || !strings.HasPrefix(root[5], "ro") {
			t.Errorf("%s: the root is mounted as %v", container, root)
		}
	}
}

// mountOf are the fields of a mount in mountinfo.
func mountOf(info, path string) []string {
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == path {
			return fields
		}
	}
	return nil
}

// doctor knows by what the kubelet puts into a container that it is in a pod, whose volume has a mode that would be a
// mistake elsewhere. The pod's credentials are not those of a service account, since a static pod has none.
func doctor(t *testing.T, f *fixture) {
	said, err := f.pod.exec(t, "sidecar", "/sidecar", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(said) {
		problem := strings.HasPrefix(line, "warn ") || strings.HasPrefix(line, "fail ")
		if problem && !strings.HasPrefix(line, "warn  aws credentials: ") {
			t.Errorf("doctor finds fault with the pod: %s", line)
		}
	}
	if strings.Contains(said, "warn  aws credentials: ") && !strings.Contains(said, "fix: give the service account a role") {
		t.Errorf("doctor does not say whose role is missing:\n%s", said)
	}
	if !strings.Contains(said, "the kubelet made it") {
		t.Errorf("doctor does not know the kubelet's directory:\n%s", said)
	}
}

func rotation(t *testing.T, f *fixture) {
	before := time.Now()
	key := f.rotate(t)
	testenv.Eventually(t, "answers on the new key", func() bool { return slices.Contains(f.pod.answers(t, before), key) })
	f.pod.goesOn(t)
	keys := f.pod.answers(t, before)
	if last := keys[len(keys)-1]; last != key {
		t.Errorf("the newest answer is on %s, not on the new key %s", last, key)
	}
}

// restarted waits until the kubelet has restarted the sidecar, since began, and the pod is ready. Meanwhile queries
// were answered, and the application was left alone.
func restarted(t *testing.T, f *fixture, before *podState, began time.Time) {
	t.Helper()
	f.pod.eventually(t, "the kubelet restarts the sidecar", func(s *podState) bool {
		return s.container("sidecar").RestartCount == before.container("sidecar").RestartCount+1
	})
	after := f.pod.eventually(t, "a pod that is ready again", func(s *podState) bool {
		return s.is("Ready") && s.container("sidecar").State.Running != nil
	})
	was, is := before.container("app"), after.container("app")
	if is.ContainerID != was.ContainerID || is.RestartCount != 0 {
		t.Errorf("the application was restarted: %+v, before %+v", is, was)
	}
	took := time.Since(began)
	// Four workers ask twenty times a second each; a busy machine does less.
	if answers := len(f.pod.answers(t, began)); answers < int(took.Seconds()) {
		t.Errorf("only %d answers in %v", answers, took)
	}
	rotation(t, f)
}

func killed(t *testing.T, f *fixture) {
	before, began := f.pod.state(t), time.Now()
	f.signalSidecar(t, syscall.SIGKILL)
	restarted(t, f, before, began)
	last := f.pod.state(t).container("sidecar").LastState.Terminated
	if last == nil || last.ExitCode != 128+int(syscall.SIGKILL) {
		t.Errorf("the kubelet does not say that the sidecar was killed: %+v", last)
	}
}

// keyLost takes the key from the volume while the sidecar hangs, and so cannot publish it again.
func keyLost(t *testing.T, f *fixture) {
	before, began := f.pod.state(t), time.Now()
	f.signalSidecar(t, syscall.SIGSTOP)
	for _, format := range []keyfile.Format{keyfile.DER, keyfile.PEM} {
		if err := os.Remove(filepath.Join(f.pod.volume(t), format.FileName())); err != nil {
			t.Fatal(err)
		}
	}
	f.pod.eventually(t, "a pod that is not ready", func(s *podState) bool {
		return !s.is("Ready") && !s.container("sidecar").Ready
	})
	restarted(t, f, before, began)
}

func (f *fixture) signalSidecar(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(f.pod.pid(t, "sidecar"), s); err != nil {
		t.Fatal(err)
	}
}

// full takes the volume's room away, and gives it back.
func full(t *testing.T, f *fixture) {
	filler := filepath.Join(f.pod.volume(t), "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte{1}, 2<<20), 0o600); err == nil {
		t.Fatal("2 MiB go into a volume of 1 MiB")
	}
	defer os.Remove(filler)
	info, err := os.Stat(filler)
	if err != nil || info.Size() < 900<<10 || info.Size() > 1<<20 {
		t.Fatalf("of a volume of 1 MiB, %v are left for a file: %v", info.Size(), err)
	}
	began := time.Now()
	key := f.rotate(t)
	sidecar := f.pod.log(t, "sidecar")
	testenv.Eventually(t, "the sidecar says that there is no room", func() bool {
		_, found := sidecar.find(t, began, "no space left on device", "sizeLimit: 1Mi of the emptyDir has enough")
		return found
	})
	f.pod.goesOn(t)
	if slices.Contains(f.pod.answers(t, began), key) {
		t.Error("a key that could not be published was used")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "answers on the new key, once there is room", func() bool {
		return slices.Contains(f.pod.answers(t, began), key)
	})
}

func termination(t *testing.T, f *fixture) {
	volume := f.pod.volume(t)
	app, sidecar := f.pod.log(t, "app"), f.pod.log(t, "sidecar")
	began := time.Now()
	if err := os.Remove(f.pod.manifest); err != nil {
		t.Fatal(err)
	}
	var ofApp, ofSidecar logLine
	testenv.Eventually(t, "the application ends by itself, without a failed query", func() (found bool) {
		ofApp, found = app.find(t, began, "msg=stopped", "failures=0")
		return found
	})
	testenv.Eventually(t, "the sidecar ends by itself", func() (found bool) {
		ofSidecar, found = sidecar.find(t, began, `"msg":"stopped"`)
		return found
	})
	if ofSidecar.at.Before(ofApp.at) {
		t.Errorf("the sidecar ended at %v, before the application at %v", ofSidecar.at, ofApp.at)
	}
	testenv.Eventually(t, "the volume is gone", func() bool {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		return err == nil && mountOf(string(mounts), volume) == nil
	})
}
