package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	runner "github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// These tests run the command as what it is, a process with an environment, an exit code and signals.
// The program is this test binary, which beSidecar makes the sidecar; its value is the limit of a call
// to SSM, so that no test waits for as long as a task would.
const beSidecar = "TEST_BINARY_IS_THE_SIDECAR"

// testLease is another limit, of how long a rotation waits for one that may be dead.
const testLease = "TEST_LEASE"

// testRetry is how long a rotation retries errors that may pass; without it, not at all.
const testRetry = "TEST_RETRY"

// testSignalGap is the time between two refreshes by SIGHUP: tests send signals more often than operators do.
const testSignalGap = "TEST_SIGNAL_GAP"

func TestMain(m *testing.M) {
	limit, ok := os.LookupEnv(beSidecar)
	if !ok {
		testenv.Parallel(6)
		dir, err := os.MkdirTemp("", "sidecar-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binary, err := os.ReadFile(os.Args[0])
		if err != nil {
			panic(err)
		}
		forOthers, readable = filepath.Join(dir, "sidecar"), filepath.Join(dir, "readable")
		if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(forOthers, binary, 0o755), os.WriteFile(readable, binary, 0o755),
			os.Chmod(forOthers, 0o111)); err != nil {
			panic(err)
		}
		m.Run()
		return
	}
	var err error
	if ssmOptions.CallTimeout, err = time.ParseDuration(limit); err != nil {
		panic(err)
	}
	rotationRetry = -1
	if retry, err := time.ParseDuration(os.Getenv(testRetry)); err == nil {
		rotationRetry = retry
	}
	if lease, err := time.ParseDuration(os.Getenv(testLease)); err == nil {
		rotationLease = lease
	}
	if gap, err := time.ParseDuration(os.Getenv(testSignalGap)); err == nil {
		signalGap = gap
	}
	main()
}

// Copies of this binary that every user may run; a test's own directory is closed to them. They are made before any test
// runs: a process that starts while a copy is still open for writing inherits the descriptor, and the copy cannot be executed
// ("text file busy").
var (
	forOthers string // without read permission, as in the image
	readable  string // as go build makes it
)

// What newTask stores, and where. The files are openssl's.
const (
	keyParameter  = "/app/key"
	passParameter = "/app/pass"

	oldKey        = "internal/decrypt/testdata/aes256.p8"
	nextKey       = "testdata/next.p8"            // has oldKey's passphrase
	nextKeyOfNext = "testdata/next-passphrase.p8" // the same key, with nextPassphrase

	oldFingerprint  = "internal/decrypt/testdata/rsa.fingerprint"
	nextFingerprint = "testdata/next.fingerprint"
)

// arnOf is what AWS calls a parameter.
func arnOf(parameter string) string {
	return "arn:aws:ssm:us-east-1:123456789012:parameter/" + strings.TrimPrefix(parameter, "/")
}

// onDemand leaves every refresh after the first one to the test: the next is due at a random time within the interval.
const onDemand = "--interval=10000h"

// soon is the timeout for an event that takes milliseconds on an idle machine without the race detector.
const soon = time.Minute

// A task is what one sidecar has around it: a Parameter Store, a key directory, an environment.
type task struct {
	t              *testing.T
	ssm            *localssm.Server
	dir            string
	env            map[string]string // all that a process gets: nothing of the developer's own
	program        string
	user           *credential
	stdin          io.Reader
	stdout, stderr *os.File            // instead of where a test reads them
	attr           syscall.SysProcAttr // of the process, but for its user
}

// newTask is a task that has everything right.
func newTask(t *testing.T) *task {
	t.Helper()
	testenv.Slow(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	store := localssm.New()
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	k := &task{t: t, ssm: store, dir: t.TempDir(), program: program, env: map[string]string{
		beSidecar:                      "20s",
		testSignalGap:                  "1ms",
		"GORACE":                       "atexit_sleep_ms=0", // a second for each process otherwise
		"PATH":                         os.Getenv("PATH"),
		"HOME":                         "/nonexistent",
		"AWS_REGION":                   "us-east-1",
		"AWS_ACCESS_KEY_ID":            "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":        awsSecret,
		"AWS_ENDPOINT_URL_SSM":         server.URL,
		"AWS_EC2_METADATA_DISABLED":    "true",
		"KUBERNETES_SERVICE_HOST":      "", // this is no pod, wherever the tests run
		"SNOWKEY_KEY_PARAMETER":        keyParameter,
		"SNOWKEY_PASSPHRASE_PARAMETER": passParameter,
	}}
	k.heal()
	return k
}

// heal removes all faults and restores both parameters.
func (k *task) heal() {
	k.ssm.ClearFaults()
	k.ssm.Put(keyParameter, content(k.t, oldKey))
	k.ssm.Put(passParameter, passphrase)
}

// withoutAWS leaves nothing that the sidecar could call AWS with.
func (k *task) withoutAWS() {
	for name := range k.env {
		if strings.HasPrefix(name, "AWS_") || strings.HasSuffix(name, "_PARAMETER") {
			delete(k.env, name)
		}
	}
}

// unprivileged runs commands as the image's user when the tests run as root, since root ignores modes.
// That user cannot reach a test's temporary directories, nor the test binary in go's.
func (k *task) unprivileged() {
	k.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	k.program = forOthers
	k.user = &credential{Uid: 65532, Gid: 65532}
	for _, err := range []error{
		os.Chmod(filepath.Dir(k.t.TempDir()), 0o755),
		os.Chown(k.dir, 65532, 65532),
	} {
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fingerprint is what openssl computed, as Snowflake writes it.
func fingerprint(t *testing.T, path string) string {
	t.Helper()
	return "SHA256:" + strings.TrimSpace(content(t, path))
}

// A process is one sidecar. All its output is searched for secrets when its test ends.
type process struct {
	*task
	*runner.Process
	args           []string
	stdout, stderr runner.Output
	others         runner.Output // status.json, and what was served over HTTP
}

// start is where every process of these tests comes from.
func (k *task) start(args ...string) *process {
	k.t.Helper()
	p := &process{task: k, args: args}
	cmd := exec.Command(k.program, args...)
	cmd.Env = []string{"SNOWKEY_DIR=" + k.dir}
	for name, value := range k.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = k.stdin, &p.stdout, &p.stderr
	if k.stdout != nil {
		cmd.Stdout = k.stdout
	}
	if k.stderr != nil {
		cmd.Stderr = k.stderr
	}
	cmd.SysProcAttr = &k.attr
	setUser(cmd.SysProcAttr, k.user)
	var err error
	p.Process, err = runner.Start(p.String(), cmd, nil)
	if k.user != nil && errors.Is(err, fs.ErrPermission) {
		k.t.Skipf("no process of uid %d here, or none that reaches the directory for temporary files: %v", k.user.Uid, err)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		p.search()
	})
	return p
}

// do runs a command to its end.
func (k *task) do(args ...string) *process {
	k.t.Helper()
	p := k.start(args...)
	p.wait()
	return p
}

// publish puts a good key of the same source on disk, as a predecessor did.
func (k *task) publish() {
	k.t.Helper()
	key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
	k.must(err)
	publisher := publish.New(publish.Dir{Path: k.dir, Formats: []keyfile.Format{keyfile.DER, keyfile.PEM}, Mode: 0o440})
	_, err = publisher.Key(key)
	k.must(err)
	k.must(publisher.Status(keyfile.Status{
		Schema: keyfile.StatusSchema, Source: arnOf(keyParameter), Fingerprint: key.Fingerprint(), PublishedAt: time.Now(), CheckedAt: time.Now(),
	}))
}

func (k *task) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// run starts `run` and waits for its first key. Later refreshes come at a test's request.
func (k *task) run(args ...string) *process {
	k.t.Helper()
	began := time.Now().Truncate(time.Millisecond)
	p := k.start(append([]string{"run", onDemand}, args...)...)
	p.eventually("a first refresh that succeeds", func() bool { return !k.status().CheckedAt.Before(began) })
	return p
}

// end sends a signal, unless the process has gone already, and waits.
func (p *process) end(s syscall.Signal) {
	p.t.Helper()
	if p.Ended() {
		return
	}
	for _, path := range []string{"/metrics", "/livez", "/readyz"} {
		p.get(path)
	}
	p.signal(s)
	p.wait()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Signal(s); err != nil {
		p.t.Errorf("%v: %v", s, err)
	}
}

func (p *process) wait() {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(soon):
		p.Kill()
		p.t.Errorf("%s did not end by itself", p)
	}
	if status, err := os.ReadFile(filepath.Join(p.dir, keyfile.StatusName)); err == nil {
		_, _ = p.others.Write(status)
	}
}

// get requests a path from the process over HTTP; the status is 0 without an answer.
func (p *process) get(path string) (status int, body string) {
	p.t.Helper()
	address := p.env["SNOWKEY_METRICS_ADDR"]
	if address == "" {
		return 0, ""
	}
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Error(err)
	}
	_, _ = p.others.Write(data)
	return resp.StatusCode, string(data)
}

// outputs are all that a secret could be in, by name.
func (p *process) outputs() map[string]string {
	return map[string]string{
		"stdout": p.stdout.String(), "stderr": p.stderr.String(), "status.json or HTTP": p.others.String(),
	}
}

// publicKeyHead is what a public key of 2048 or 3072 bits begins with, all but its lengths as in any RSA
// key, private ones included.
var publicKeyHead = regexp.MustCompile(`MIIB[Io]jANBgkqhkiG9w0BAQEFAAOCA[QY]8A`)

// search fails the test for a secret, and for what no input may cause, in any output.
func (p *process) search() {
	p.t.Helper()
	for name, text := range p.outputs() {
		text = publicKeyHead.ReplaceAllString(text, "")
		if found := marked().in(text); found != "" {
			p.t.Errorf("%s: there is %s in its %s", p, found, name)
		}
		for _, bug := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
			if strings.Contains(text, bug) {
				p.t.Errorf("%s: %s in its %s:\n%s", p, bug, name, text)
			}
		}
	}
}

func (p *process) String() string { return "sidecar " + strings.Join(p.args, " ") }

// want checks how a command ended and that its message has all of these words.
func (p *process) want(exit int, says ...string) {
	p.t.Helper()
	if code := p.State().ExitCode(); code != exit {
		p.t.Errorf("%s: exit code %d, want %d; it said:\n%s%s", p, code, exit, &p.stdout, &p.stderr)
	}
	for _, words := range says {
		if !strings.Contains(p.stdout.String()+p.stderr.String(), words) {
			p.t.Errorf("%s: no %q in what it said:\n%s%s", p, words, &p.stdout, &p.stderr)
		}
	}
}

// eventually waits for something that the process does.
func (p *process) eventually(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(soon); !done(); time.Sleep(5 * time.Millisecond) {
		if p.Ended() {
			p.t.Fatalf("%s: ended with %d before this: %s\n%s", p, p.State().ExitCode(), what, &p.stderr)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: never happened: %s\n%s", p, what, &p.stderr)
		}
	}
}

// refresh sends SIGHUP, and waits until status.json has a later refresh.
func (p *process) refresh() {
	p.t.Helper()
	before := p.refreshed()
	p.signal(syscall.SIGHUP)
	p.eventually("a refresh after SIGHUP", func() bool { return p.refreshed().After(before) })
}

// refreshed is when status.json says that the last refresh was.
func (k *task) refreshed() time.Time {
	s := k.status()
	if s.LastError != nil {
		return s.LastError.At
	}
	return s.CheckedAt
}

// follows waits until the process has published the key of this fingerprint.
func (p *process) follows(fingerprint string) {
	p.t.Helper()
	p.eventually("publishes "+fingerprint, func() bool {
		key, err := keyfile.Read(filepath.Join(p.dir, "rsa_key.pem"))
		return err == nil && key.Fingerprint() == fingerprint && p.status().Fingerprint == fingerprint
	})
}

// A line is one of `run`'s log.
type line struct {
	Level, Msg, Error, Fingerprint, Version, Filesystem, Signal string
	Class                                                       keyfile.ErrorClass
	Pid                                                         int
	ExitCode                                                    int    `json:"exit_code"`
	Advice                                                      string `json:"advice"`
}

func (p *process) log() []line {
	var all []line
	for text := range strings.Lines(p.stderr.String()) {
		var l line
		if json.Unmarshal([]byte(text), &l) == nil {
			if l.Error != "" && l.Advice != "" {
				l.Error += "; " + l.Advice // as the commands without a log say it
			}
			all = append(all, l)
		}
	}
	return all
}

// count is how many lines of the log have this message.
func (p *process) count(message string) int {
	n := 0
	for _, l := range p.log() {
		if l.Msg == message {
			n++
		}
	}
	return n
}

// last is the last line of the log with this message.
func (p *process) last(message string) (last line) {
	for _, l := range p.log() {
		if l.Msg == message {
			last = l
		}
	}
	return last
}

// status is status.json, zero before there is one.
func (k *task) status() keyfile.Status {
	s, err := keyfile.ReadStatus(k.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.t.Error(err)
	}
	return s
}

// A snapshot is what is in a key directory but for the status and the socket, which come and go.
type snapshot map[string]file

type file struct {
	content string
	fs.FileInfo
}

func (k *task) snapshot() snapshot {
	k.t.Helper()
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		k.t.Fatal(err)
	}
	all := snapshot{}
	for _, e := range entries {
		if slices.Contains([]string{keyfile.StatusName, keyfile.RefreshSocketName, publish.LockName}, e.Name()) || strings.HasPrefix(e.Name(), publish.RefusedPrefix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			k.t.Fatal(err)
		}
		f := file{FileInfo: info}
		if info.Mode().IsRegular() {
			f.content = content(k.t, filepath.Join(k.dir, e.Name()))
		}
		all[e.Name()] = f
	}
	return all
}

// untouched fails the test unless every file is the one it was, and no other came or went.
func (k *task) untouched(before snapshot) {
	k.t.Helper()
	now := k.snapshot()
	for name, was := range before {
		is, ok := now[name]
		switch {
		case !ok:
			k.t.Errorf("%s has gone", name)
		case is.content != was.content:
			k.t.Errorf("%s has another content", name)
		case !os.SameFile(is.FileInfo, was.FileInfo), !is.ModTime().Equal(was.ModTime()), is.Mode() != was.Mode():
			k.t.Errorf("%s was written again", name)
		}
	}
	for name := range now {
		if _, ok := before[name]; !ok {
			k.t.Errorf("%s was left behind", name)
		}
	}
}

// freePort is below the ports that systems give to whatever asks for any. Another test's server cannot have it.
var freePort atomic.Int64

func init() { freePort.Store(20000 + int64(os.Getpid())%1000) }

// freeAddress has no listener, and no other test gets it.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", freePort.Add(1)))
		if err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	t.Fatal("no port below those of the system is free")
	return ""
}
