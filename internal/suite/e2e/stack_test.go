//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	keyDirectory = "/run/snowflake"
	uid          = 65532 // of every container
)

// A stack is what runs, and every key that was published in it so far.
type stack struct {
	localcloud, sidecar container
	consumer, python    *reader
	volume              string // where the engine mounts it
	keys                [][]byte
	began               time.Time // before the first key was made
}

func (s *stack) readers() map[string]*reader {
	return map[string]*reader{"consumer": s.consumer, "python": s.python}
}

func (s *stack) containers() map[string]container {
	return map[string]container{
		"localcloud": s.localcloud, "sidecar": s.sidecar, "consumer": s.consumer.container, "python": s.python.container,
	}
}

// readKey notes the key that is published now, and returns its fingerprint.
func (s *stack) readKey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(s.volume, keyfile.DER.FileName())
	der, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.keys, func(known []byte) bool { return bytes.Equal(known, der) }) {
		s.keys = append(s.keys, der)
	}
	key, err := keyfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return key.Fingerprint()
}

// rotate has a new key made as the README says, and waits until it is on the volume.
func (s *stack) rotate(t *testing.T) (fingerprint string) {
	t.Helper()
	before := s.readKey(t)
	if _, err := command(t.Context(), composeEnviron, "make", "rotate"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the sidecar publishes the next key", func() bool {
		fingerprint = s.readKey(t)
		return fingerprint != before
	})
	return fingerprint
}

// A reader is an application that prints what Snowflake answers and with which key it asked.
type reader struct {
	container
	answered, failed *regexp.Regexp
}

// key is that of the newest answer.
func (r *reader) key(t *testing.T) string {
	t.Helper()
	for _, line := range slices.Backward(r.lines(t)) {
		if m := r.answered.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}

func (r *reader) answers(t *testing.T) int {
	t.Helper()
	count := 0
	for _, line := range r.lines(t) {
		if r.answered.MatchString(line) {
			count++
		}
	}
	return count
}

func (r *reader) goesOn(t *testing.T) {
	t.Helper()
	before := r.answers(t)
	testenv.Eventually(t, "another answer", func() bool { return r.answers(t) > before })
}

// noFailure looks at all that it has ever printed.
func (r *reader) noFailure(t *testing.T) {
	t.Helper()
	for _, line := range r.lines(t) {
		if r.failed.MatchString(line) {
			t.Errorf("it printed: %s", line)
		}
	}
	if r.answers(t) == 0 {
		t.Error("it printed no answer")
	}
}

// undisturbed fails unless all that the readers print meanwhile are answers, on one and the same key, and
// they print as many as they do otherwise.
func (s *stack) undisturbed(t *testing.T, meanwhile func()) {
	t.Helper()
	before := map[string]int{}
	key := s.readKey(t)
	for name, r := range s.readers() {
		before[name] = len(r.lines(t))
	}
	began := time.Now()
	meanwhile()
	for _, r := range s.readers() {
		r.goesOn(t)
	}
	took := time.Since(began)
	for name, r := range s.readers() {
		lines := r.lines(t)[before[name]:]
		for _, line := range lines {
			m := r.answered.FindStringSubmatch(line)
			if m == nil || m[1] != key {
				t.Errorf("%s noticed: %s", name, line)
			}
		}
		// The slower of the two asks once a second.
		if least := int(took/time.Second) / 2; len(lines) < least {
			t.Errorf("%s got %d answers in %v", name, len(lines), took)
		}
		if n := r.inspect(t).RestartCount; n != 0 {
			t.Errorf("%s was restarted %d times", name, n)
		}
	}
}

func TestStack(t *testing.T) {
	s := &stack{
		localcloud: service(t, "localcloud"),
		sidecar:    service(t, "sidecar"),
		consumer: &reader{
			container: service(t, "consumer"),
			answered:  regexp.MustCompile(`msg=answered .*fingerprint="(SHA256:[A-Za-z0-9+/=]+)"`),
			failed:    regexp.MustCompile(`msg="query failed"|level=WARN|panic:`), // the driver calls a login that ends with the program an ERROR
		},
		python: &reader{
			container: service(t, "python"),
			answered:  regexp.MustCompile(`^Snowflake .* on (SHA256:[A-Za-z0-9+/=]+)$`),
			failed:    regexp.MustCompile(`^no answer|^staying on|Traceback|Error`),
		},
		volume: docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", project+"_snowflake-key"),
	}
	s.began = s.localcloud.inspect(t).State.StartedAt.Add(-time.Second)
	s.readKey(t)

	for _, step := range []struct {
		name string
		test func(*testing.T, *stack)
	}{
		{"consumers start once the sidecar is healthy, and get answers", startInOrder},
		{"the volume is the tmpfs that the file asks for, read-only for consumers", mounts},
		{"modes and owners are those of the contract", modes},
		{"doctor finds nothing wrong", doctor},
		{"other users cannot read", otherUsers},
		{"nothing runs as root, with a capability or a writable root", unprivileged},
		{"a rotation reaches both consumers without a failed query", rotation},
		{"the sidecar is killed", killed},
		{"the sidecar is stopped and started", stopped},
		{"the sidecar is restarted", restarted},
		{"the sidecar is paused for 30 seconds", paused},
		{"a rotation after all that", rotation},
		{"a consumer is restarted and back on the current key", consumerRestarted},
		{"the key is nowhere else", nowhereElse},
		{"a planted key is found", planted},
		{"the key goes with the stack", gone},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, s) }) {
			t.FailNow() // the next steps start from what this one leaves
		}
	}
}

func startInOrder(t *testing.T, s *stack) {
	if !s.sidecar.healthy(t) {
		t.Error("the sidecar is not healthy")
	}
	started, published := s.sidecar.inspect(t).State, s.status(t).PublishedAt
	t.Logf("from the sidecar's start to its first key: %v; to healthy, looked at every 2 s: %v",
		published.Sub(started.StartedAt).Round(time.Millisecond),
		s.sidecar.becameHealthy(t).Sub(started.StartedAt).Round(time.Millisecond))
	for name, r := range s.readers() {
		if at := r.inspect(t).State.StartedAt; at.Before(published) {
			t.Errorf("%s started at %v, before the key was there at %v", name, at, published)
		}
		r.goesOn(t)
		r.noFailure(t)
		if got, want := r.key(t), s.readKey(t); got != want {
			t.Errorf("%s asks with %s, published is %s", name, got, want)
		}
	}
}

func (s *stack) status(t *testing.T) keyfile.Status {
	t.Helper()
	status, err := keyfile.ReadStatus(s.volume)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func mounts(t *testing.T, s *stack) {
	for name, c := range s.containers() {
		if name == "localcloud" {
			continue
		}
		m := mountAt(t, c, keyDirectory)
		// Older engines lose the other options where they make a mount read-only.
		options := []string{"ro"}
		if name == "sidecar" {
			options = []string{"rw", "noexec", "nosuid", "nodev"}
		}
		if m.filesystem != "tmpfs" {
			t.Errorf("%s has a %s", name, m.filesystem)
		}
		for _, option := range options {
			if !slices.Contains(m.options, option) {
				t.Errorf("%s mounts it %v, without %s", name, m.options, option)
			}
		}
		for _, option := range []string{"size=1024k", "mode=750", "uid=65532", "gid=65532"} {
			if !slices.Contains(m.superOptions, option) {
				t.Errorf("%s has a tmpfs with %v, without %s", name, m.superOptions, option)
			}
		}
	}
	if fs := s.status(t).Filesystem; fs != "tmpfs" {
		t.Errorf("status.json says %q", fs)
	}
}

// A mount is a line of mountinfo, see proc_pid_mountinfo(5).
type mount struct {
	options      []string
	filesystem   string
	superOptions []string
}

func mountAt(t *testing.T, c container, path string) mount {
	t.Helper()
	for line := range strings.Lines(c.proc(t, "mountinfo")) {
		left, right, _ := strings.Cut(line, " - ")
		of, is := strings.Fields(left), strings.Fields(right)
		if of[4] == path {
			return mount{strings.Split(of[5], ","), is[0], strings.Split(is[2], ",")}
		}
	}
	t.Fatalf("nothing is mounted at %s", path)
	return mount{}
}

func modes(t *testing.T, s *stack) {
	want := map[string]fs.FileMode{
		".":                fs.ModeDir | 0o750,
		"rsa_key.der":      0o440,
		"rsa_key.pem":      0o440,
		"connections.toml": 0o600,
		"config.toml":      0o600,
		"status.json":      0o444,
		"refresh.sock":     fs.ModeSocket | 0o660,
		"sidecar.lock":     0o200,
	}
	entries, err := os.ReadDir(s.volume)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := want[e.Name()]; !ok && !strings.HasPrefix(e.Name(), ".snowkey-") {
			t.Errorf("there also is %s", e.Name())
		}
	}
	for name, mode := range want {
		info, err := os.Lstat(filepath.Join(s.volume, name))
		if err != nil {
			t.Error(err)
			continue
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || owner.Uid != uid || owner.Gid != uid {
			t.Errorf("%s is %v, of %d:%d", name, info.Mode(), owner.Uid, owner.Gid)
		}
	}
}

// The health check reads the key and parses it, as any reader does; it runs with the volume, and as
// another user.
// doctor is what docs/troubleshooting.md says of a container that runs.
func doctor(t *testing.T, s *stack) {
	out, err := s.sidecar.exec(t, "/sidecar", "doctor")
	if err != nil {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	if all := regexp.MustCompile(`\n\d+ checks: \d+ ok\n$`); !all.MatchString(out) {
		t.Errorf("doctor finds fault with the stack, or did not check all of it:\n%s", out)
	}
}

func otherUsers(t *testing.T, _ *stack) {
	read := func(user string) (string, error) {
		return command(t.Context(), nil, "docker", "run", "--rm", "--network", "none", "--cap-drop", "ALL", "--user", user,
			"--volume", project+"_snowflake-key:"+keyDirectory+":ro", "snowkey-sidecar", "healthcheck")
	}
	for _, user := range []string{"65532:65532", "1000:65532"} {
		if _, err := read(user); err != nil {
			t.Errorf("%s cannot read: %v", user, err)
		}
	}
	for _, user := range []string{"1000:1000", "65534:65534", "0:0"} {
		if out, err := read(user); err == nil || !strings.Contains(out, "permission denied") {
			t.Errorf("%s: %v, %s", user, err, out)
		}
	}
}

func unprivileged(t *testing.T, s *stack) {
	for name, c := range s.containers() {
		fields := map[string]string{}
		for line := range strings.Lines(c.proc(t, "status")) {
			field, value, _ := strings.Cut(line, ":")
			fields[field] = strings.Join(strings.Fields(value), " ")
		}
		for field, want := range map[string]string{
			"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532",
			"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
			"NoNewPrivs": "1",
		} {
			if fields[field] != want {
				t.Errorf("%s runs with %s %s, want %s", name, field, fields[field], want)
			}
		}
		if m := mountAt(t, c, "/"); !slices.Contains(m.options, "ro") {
			t.Errorf("the root of %s is mounted %v", name, m.options)
		}
	}
}

// Two in a row: after the second one the key that was there before both has no slot left in Snowflake.
func rotation(t *testing.T, s *stack) {
	for range 2 {
		fingerprint := s.rotate(t)
		for name, r := range s.readers() {
			testenv.Eventually(t, name+" asks with "+fingerprint, func() bool { return r.key(t) == fingerprint })
		}
	}
	for _, r := range s.readers() {
		r.goesOn(t)
		r.noFailure(t)
	}
}

func killed(t *testing.T, s *stack) {
	inode := s.inode(t)
	s.undisturbed(t, func() {
		docker(t, "kill", s.sidecar.id)
		if code := s.sidecar.inspect(t).State.ExitCode; code != 137 {
			t.Errorf("it ended with %d", code)
		}
		time.Sleep(3 * time.Second)
		s.startSidecar(t)
	})
	if s.inode(t) != inode {
		t.Error("the same key was written again")
	}
}

func stopped(t *testing.T, s *stack) {
	inode := s.inode(t)
	s.undisturbed(t, func() {
		began := time.Now()
		docker(t, "stop", s.sidecar.id)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v to stop", took)
		}
		if code := s.sidecar.inspect(t).State.ExitCode; code != 0 {
			t.Errorf("it ended with %d", code)
		}
		time.Sleep(3 * time.Second)
		s.startSidecar(t)
	})
	if s.inode(t) != inode {
		t.Error("the same key was written again")
	}
}

func restarted(t *testing.T, s *stack) {
	s.undisturbed(t, func() {
		docker(t, "restart", s.sidecar.id)
		testenv.Eventually(t, "the sidecar is healthy", func() bool { return s.sidecar.healthy(t) })
	})
}

func paused(t *testing.T, s *stack) {
	checked := s.status(t).CheckedAt
	s.undisturbed(t, func() {
		docker(t, "pause", s.sidecar.id)
		checked = s.status(t).CheckedAt
		time.Sleep(30 * time.Second)
		if now := s.status(t).CheckedAt; !now.Equal(checked) {
			t.Errorf("it was not paused: it looked at %v", now)
		}
		docker(t, "unpause", s.sidecar.id)
	})
	testenv.Eventually(t, "the sidecar looks again", func() bool { return s.status(t).CheckedAt.After(checked) })
}

func (s *stack) startSidecar(t *testing.T) {
	t.Helper()
	docker(t, "start", s.sidecar.id)
	testenv.Eventually(t, "the sidecar is healthy", func() bool { return s.sidecar.healthy(t) })
}

func (s *stack) inode(t *testing.T) uint64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.volume, keyfile.DER.FileName()))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func consumerRestarted(t *testing.T, s *stack) {
	current := s.readKey(t)
	for name, r := range s.readers() {
		before := len(r.lines(t))
		docker(t, "restart", r.id)
		var first string
		testenv.Eventually(t, name+" gets an answer", func() bool {
			for _, line := range r.lines(t)[before:] {
				if m := r.answered.FindStringSubmatch(line); m != nil {
					first = m[1]
				}
			}
			return first != ""
		})
		if first != current {
			t.Errorf("%s is back on %s, published is %s", name, first, current)
		}
		r.noFailure(t)
	}
	s.consumer.says(t, "msg=stopped queries=", " failures=0")
}

func gone(t *testing.T, s *stack) {
	path := filepath.Join(s.volume, keyfile.DER.FileName())
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is still there", path)
	}
	if _, err := compose(t.Context(), "up", "-d"); err != nil { // for the tests that follow
		t.Fatal(fmt.Errorf("again: %w", err))
	}
}
