//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/internal/tools/process/processtest"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	account             = "LOCAL"
	user                = "APP_USER"
	region              = "us-east-1"
	keyParameter        = "/app/key"
	passphraseParameter = "/app/passphrase"
	passphrase          = "a passphrase for tests"
	workers             = 2           // of the consumer, each with a query at a time
	interval            = time.Second // of the sidecar, whose default is five minutes
)

// A fixture is a task: Parameter Store and Snowflake, the ways to them, a volume, the sidecar, the consumer
// under light load, and readers of the files.
type fixture struct {
	t         *testing.T
	ssm       *localssm.Server
	snowflake *localsnowflake.Server

	toSSM       *proxy // the sidecar's
	toSnowflake *proxy // the consumer's
	toVerify    *proxy // the sidecar's
	dir         string
	sidecar     *processtest.Process
	consumer    *processtest.Process
	sidecarEnv  map[string]string
	consumerEnv map[string]string
	program     string       // the sidecar
	application string       // the consumer
	expired     atomic.Bool  // whether Parameter Store takes the sidecar's credentials for expired
	misdated    atomic.Int64 // how many calls were signed at another time
	newest      atomic.Int64 // how many keys Parameter Store has had
	assigned    bool         // whether Snowflake accepts all keys
	readers     *readers
	metrics     string
}

// newFixture has everything right and nothing running yet.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, ssm: localssm.New(), snowflake: localsnowflake.New(), program: "sidecar", application: "consumer"}
	f.snowflake.CreateUser(user)
	f.toSSM = newProxy(t, testenv.Serve(t, f.front()).Host)
	snowflake := testenv.Serve(t, f.snowflake).Host
	f.toSnowflake, f.toVerify = newProxy(t, snowflake), newProxy(t, snowflake)
	var err error
	if f.dir, err = os.MkdirTemp("", "faults-"); err != nil { // t.TempDir is too long for a socket
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(f.dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.metrics = l.Addr().String()
	l.Close()
	home := t.TempDir()
	f.sidecarEnv = map[string]string{
		"HOME": home, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": region,
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_ENDPOINT_URL_SSM":         "http://" + f.toSSM.address,
		"SNOWKEY_KEY_PARAMETER":        keyParameter,
		"SNOWKEY_PASSPHRASE_PARAMETER": passphraseParameter,
		"SNOWKEY_DIR":                  f.dir,
		"SNOWKEY_INTERVAL":             interval.String(),
		"SNOWKEY_METRICS_ADDR":         f.metrics,
	}
	f.consumerEnv = map[string]string{
		"HOME":                       home,
		"SNOWFLAKE_PRIVATE_KEY_PATH": filepath.Join(f.dir, keyfile.DER.FileName()),
		// There is no cloud around this process to detect, and its detection takes a while to find out.
		"SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
	}
	f.snowflakeAt(f.consumerEnv, f.toSnowflake)
	f.ssm.Put(passphraseParameter, passphrase)
	f.rotate()
	return f
}

func (f *fixture) snowflakeAt(env map[string]string, way *proxy) {
	env["SNOWFLAKE_ACCOUNT"], env["SNOWFLAKE_USER"], env["SNOWFLAKE_PROTOCOL"] = account, user, "http"
	env["SNOWFLAKE_HOST"], env["SNOWFLAKE_PORT"], _ = strings.Cut(way.address, ":")
}

// verify has the sidecar ask Snowflake about each key.
func (f *fixture) verify() {
	f.sidecarEnv["SNOWKEY_VERIFY"] = "true"
	f.snowflakeAt(f.sidecarEnv, f.toVerify)
}

// front is what AWS checks before the parameters: when a call was signed, and whether its credentials
// still hold.
func (f *fixture) front() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		age := time.Since(signed)
		if age.Abs() > 5*time.Minute {
			f.misdated.Add(1)
		}
		switch {
		case err != nil || age > 5*time.Minute:
			refuse(rw, "InvalidSignatureException", "Signature expired: "+r.Header.Get("X-Amz-Date")+" is now earlier than "+time.Now().Add(-5*time.Minute).UTC().Format("20060102T150405Z"))
		case age < -5*time.Minute:
			refuse(rw, "InvalidSignatureException", "Signature not yet current: "+r.Header.Get("X-Amz-Date")+" is still later than "+time.Now().Add(5*time.Minute).UTC().Format("20060102T150405Z"))
		case f.expired.Load():
			refuse(rw, "ExpiredTokenException", "The security token included in the request is expired")
		default:
			f.ssm.ServeHTTP(rw, r)
		}
	})
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// encrypted is the nth key as it lies in Parameter Store.
func encrypted(n int) string {
	if text, ok := encryptions.Load(n % pool); ok {
		return text.(string)
	}
	text := testkey.Encrypted(key(n), passphrase)
	encryptions.Store(n%pool, text)
	return text
}

// pool is how many keys there are. They come round again.
const pool = 8

var encryptions sync.Map // of the keys, since making one takes a while

func key(n int) *keyfile.Key { return testkey.Key(n % pool) }

// rotate assigns the next key in Snowflake's other slot and stores it in Parameter Store.
func (f *fixture) rotate() {
	n := int(f.newest.Load()) + 1
	if !f.assigned {
		f.snowflake.SetPublicKey(user, 1+n%2, &key(n).RSA().PublicKey)
	}
	f.newest.Store(int64(n))
	f.ssm.Put(keyParameter, encrypted(n))
}

func (f *fixture) newestFingerprint() string {
	return key(int(f.newest.Load())).Fingerprint()
}

// onDisk reports whether the newest key is in the file of a format.
func (f *fixture) onDisk(format keyfile.Format) bool {
	text, err := os.ReadFile(filepath.Join(f.dir, format.FileName()))
	return err == nil && string(text) == contents(format)[int(f.newest.Load())%pool]
}

// contents are what the file of a format has with each key. To compare with them costs a hundredth of parsing a key, which
// would leave the programs under test no processor.
func contents(f keyfile.Format) [pool]string {
	if all, ok := files.Load(f); ok {
		return all.([pool]string)
	}
	var all [pool]string
	for n := range all {
		all[n] = string(f.Encode(key(n)))
	}
	files.Store(f, all)
	return all
}

var files sync.Map // contents by format

func list(env map[string]string) (environ []string) {
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// start runs a program with nothing of this process's environment.
func start(t *testing.T, env map[string]string, path string, args ...string) *processtest.Process {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = list(env)
	return processtest.Start(t, cmd)
}

func (f *fixture) startSidecar() {
	f.t.Helper()
	f.sidecar = start(f.t, f.sidecarEnv, filepath.Join(binaries, f.program), "run")
}

func (f *fixture) startConsumer() {
	f.t.Helper()
	f.consumer = start(f.t, f.consumerEnv, filepath.Join(binaries, f.application), "-interval=50ms", fmt.Sprintf("-workers=%d", workers))
}

// begin starts everything and waits until queries run on the newest key.
func (f *fixture) begin() {
	f.t.Helper()
	f.startSidecar()
	f.startConsumer()
	f.adopted(0)
	f.readers = f.read()
}

// published waits until the newest key is in every file and in status.json.
func (f *fixture) published() time.Duration {
	f.t.Helper()
	return testenv.Eventually(f.t, "the newest key is published", func() bool {
		status, err := keyfile.ReadStatus(f.dir)
		return f.onDisk(keyfile.DER) && f.onDisk(keyfile.PEM) && err == nil && status.LastError == nil && status.Fingerprint == f.newestFingerprint()
	})
}

// adopted waits until a query was answered on the newest key since the mark.
func (f *fixture) adopted(since process.Mark) time.Duration {
	f.t.Helper()
	return testenv.Eventually(f.t, "queries run on the newest key", func() bool {
		if f.consumer.Ended() {
			f.t.Fatalf("the consumer has ended: %v", f.consumer.Err())
		}
		return f.consumer.Said(since, "msg=answered", f.newestFingerprint())
	})
}

// answers are so far.
func (f *fixture) answers() int { return f.consumer.Count(0, "msg=answered") }

// nothingLost ends the fixture and checks what its consumer and readers have seen.
func (f *fixture) nothingLost(queryErrors string) {
	f.t.Helper()
	f.consumer.Stop()
	if !f.consumer.Said(0, "msg=stopped") {
		f.t.Error("the consumer does not say how many queries failed")
	}
	if queryErrors == "" && !f.consumer.Said(0, "msg=stopped", "failures=0") || f.consumer.Count(0, "query failed") != f.consumer.Count(0, "query failed", queryErrors) {
		f.t.Errorf("queries failed:\n%s", strings.Join(f.failures(), "\n"))
	}
	f.readers.close()
	f.sidecar.Stop()
	f.noLeftovers()
}

func (f *fixture) failures() (lines []string) {
	for _, line := range f.consumer.Lines(0) {
		if strings.Contains(line, "query failed") || strings.Contains(line, "msg=stopped") {
			lines = append(lines, line)
		}
	}
	return lines
}

// temporary is in the names of files that exist for the moment of a write.
const temporary = ".snowkey-"

func (f *fixture) noLeftovers() {
	f.t.Helper()
	if f.hasLeftovers() {
		f.t.Error("a temporary file is left")
	}
}

func (f *fixture) hasLeftovers() bool {
	entries, err := os.ReadDir(f.dir)
	return err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), temporary) })
}

// get is what the sidecar's HTTP address answers.
func (f *fixture) get(path string) (body string, err error) {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get("http://" + f.metrics + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text), nil
}

// metric is the value of a line of /metrics, "" if there is no such line.
func (f *fixture) metric(name string) string {
	text, _ := f.get("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fails waits until the operator can see the failure in every place that shows it.
func (f *fixture) fails(since process.Mark, class keyfile.ErrorClass, says string, status bool) {
	f.t.Helper()
	testenv.Eventually(f.t, fmt.Sprintf("a line of class %s that says %q", class, says), func() bool {
		return f.sidecar.Said(since, `"refresh failed"`, `"class":"`+string(class)+`"`, says)
	})
	for _, line := range f.sidecar.Lines(since) {
		if strings.Contains(line, says) {
			f.t.Log(line)
			break
		}
	}
	testenv.Eventually(f.t, "the metric counts the failure", func() bool {
		value := f.metric(`snowkey_refreshes_total{outcome="` + string(class) + `"}`)
		return value != "" && value != "0"
	})
	if status {
		testenv.Eventually(f.t, "status.json has the class", func() bool {
			s, err := keyfile.ReadStatus(f.dir)
			return err == nil && s.LastError != nil && s.LastError.Class == class
		})
	}
}
