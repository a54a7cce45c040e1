package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/sidecar/internal/doctor"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

func TestDoctor_FindsNothingWrong(t *testing.T) {
	t.Parallel()
	k, account := examined(t)
	var mu sync.Mutex
	var statements []string
	account.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		mu.Lock()
		defer mu.Unlock()
		statements = append(statements, r.Statement)
		return nil
	})
	before, status, calls := k.snapshot(), k.status(), len(k.calls(0))
	p := k.do("doctor")
	p.want(exitDone)
	if got, want := strings.Join(p.checklist(), "\n"), k.fill(allIsWell); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if said := p.stderr.String(); said != "" {
		t.Errorf("stderr has %q", said)
	}

	k.untouched(before)
	if now := k.status(); !reflect.DeepEqual(now, status) {
		t.Errorf("the status was %+v and is %+v", status, now)
	}
	for _, c := range k.calls(calls) {
		if c.Action != "GetParameters" && c.Action != "GetCallerIdentity" {
			t.Errorf("it called %s", c.Action)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(statements)
	if want := []string{"", "DESC USER SVC", "SELECT CURRENT_ROLE()", "SELECT CURRENT_USER()"}; !slices.Equal(statements, want) {
		t.Errorf("it ran %q, want %q, of which the first is no statement", statements, want)
	}
}

// An ailment is one thing that is wrong, with every line of the checklist that differs from allIsWell.
type ailment struct {
	name  string
	spoil func(*task, *localsnowflake.Server)
	args  []string
	lines string
}

// ofTask spoils the task alone.
func ofTask(spoil func(*task)) func(*task, *localsnowflake.Server) {
	return func(k *task, _ *localsnowflake.Server) { spoil(k) }
}

const (
	noKeyFrom = `skip  passphrase (%[1]s)
skip  key (%[1]s)
ok    published key: OLD; whether it is the newest is not known
ok    snowflake login: user svc, with the published key, since the newest was not read`
	noParameters = `skip  key parameter (%[1]s)
skip  key decryption (%[1]s)
skip  passphrase parameter (%[1]s)
skip  passphrase decryption (%[1]s)
` + noKeyFrom
	noLogin = `
skip  public key (snowflake login failed)
skip  key age (snowflake login failed)
skip  other slots (snowflake login failed)
skip  role (snowflake login failed)`
	noDirectory = `
skip  filesystem (directory failed)
skip  writing (directory failed)
skip  space (directory failed)
skip  readers (directory failed)
skip  published key (directory failed)
skip  connections (directory failed)
skip  last refresh (directory failed)
skip  other sidecars (directory failed)`
	unusableKey = `
ok    published key: OLD; whether it is the newest is not known
ok    snowflake login: user svc, with the published key, since the newest was not read`
	keepTime = "; synchronise the host's clock, for instance with chrony: Snowflake refuses a token that is a minute off"
)

func TestDoctor_SaysTheOneThingToDo(t *testing.T) {
	t.Parallel()
	for _, a := range slices.Concat(awsAilments, directoryAilments, snowflakeAilments) {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			a.spoil(k, account)
			before := k.snapshot()
			p := k.do(append([]string{"doctor"}, a.args...)...)
			k.untouched(before)
			p.differs(a.lines)
		})
	}
}

// A clock is wrong against AWS's, Snowflake's, or both, and Snowflake accepts the key all the same when it is
// asked by its own clock.
func TestDoctor_MeasuresTheClock(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		ahead time.Duration // of this machine
		state string
		says  string
	}{
		{"two minutes ahead", 2 * time.Minute, "fail", `this machine is (1m59|2m0|2m1)s ahead of`},
		{"two minutes behind", -2 * time.Minute, "fail", `this machine is (1m59|2m0|2m1)s behind`},
		{"ten seconds ahead", 10 * time.Second, "warn", `this machine is (9|10|11)s ahead of`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			account.SetClockOffset(-tc.ahead)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-tc.ahead).UTC().Format(http.TimeFormat))
				k.ssm.ServeHTTP(w, r)
			}))
			k.t.Cleanup(server.Close)
			k.env["AWS_ENDPOINT_URL_SSM"], k.env["AWS_ENDPOINT_URL_STS"] = server.URL, server.URL
			p := k.do("doctor")
			lines := strings.Join(p.checklist(), "\n")
			for _, whose := range []string{"AWS", "Snowflake"} {
				want := "(?m)^" + tc.state + "  " + strings.ToLower(whose) + " clock: " + tc.says + " " + whose + regexp.QuoteMeta(keepTime) + "$"
				if !regexp.MustCompile(want).MatchString(lines) {
					t.Errorf("no line like %s in\n%s", want, lines)
				}
			}
			if !strings.Contains(lines, k.fill("ok    snowflake login: user svc, with OLD")) {
				t.Errorf("no login:\n%s", lines)
			}
		})
	}
}

func TestDoctor_OnADisk(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		env   map[string]string
		lines string
	}{
		{"anywhere", nil, `warn  filesystem: FS, a disk: the key outlives the task there; mount a tmpfs volume there with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
		{"on Fargate", map[string]string{"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, `ok    filesystem: FS, Fargate's ephemeral storage: a disk, encrypted at rest and gone with the task; --serve with --formats none, or sidecar exec, keeps the key in memory`},
		{"where only memory is allowed", map[string]string{"SNOWKEY_REQUIRE_TMPFS": "true"}, `fail  filesystem: FS, and --require-tmpfs allows tmpfs and ramfs only; mount a tmpfs volume there with size=1m,mode=0750,uid=UID,gid=GID,noexec,nosuid,nodev`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, _ := examined(t)
			k.dir = t.TempDir()
			k.unprivileged()
			k.must(os.Chmod(k.dir, 0o750))
			k.do("once").want(exitDone)
			filesystem := k.status().Filesystem
			if filesystem == "tmpfs" || filesystem == "overlay" {
				t.Skip("the directory for temporary files is on " + filesystem)
			}
			for name, value := range tc.env {
				k.env[name] = value
			}
			k.do("doctor").differs(strings.ReplaceAll(tc.lines, "FS", filesystem))
		})
	}
}

// Services may not answer at all, or accept a connection and then be silent.
func TestDoctor_EndsWithinHalfAMinute(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // whose connections nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for _, tc := range []struct {
		name  string
		spoil func(*task, *localsnowflake.Server)
		lines string
	}{
		{"silent", func(k *task, _ *localsnowflake.Server) {
			unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
			url := "http://" + silent.Addr().String()
			k.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
			k.env["AWS_ENDPOINT_URL_SSM"], k.env["AWS_ENDPOINT_URL_STS"] = url, url
			k.env["SNOWFLAKE_PORT"] = url[strings.LastIndex(url, ":")+1:]
		}, `fail  aws credentials: none: the credentials provider did not answer within 5s; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; in an ECS task give it a task role (taskRoleArn in the task definition)
fail  ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, does not answer: no answer within 5s; correct AWS_ENDPOINT_URL_SSM, or start what it names
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "aws credentials failed") + "\n" +
			noSnowflake(`fail  snowflake host: http://HOST: Snowflake did not answer within 5s; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)`)},
		{"no more than hello", func(k *task, account *localsnowflake.Server) {
			hang(k)
			account.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Statement == "" { // no login
					return nil
				}
				return &localsnowflake.Fault{Delay: time.Hour}
			})
		}, `warn  aws credentials: from AWS_ACCESS_KEY_ID, and STS was not reached to say to whom they belong; ignore this if the parameters can be read: run does not call STS
fail  key parameter: ` + silence + `
fail  passphrase parameter: ` + silence + `
skip  key decryption (key parameter failed)
skip  passphrase decryption (passphrase parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed") + `
fail  snowflake login: Snowflake did not answer within 5s; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)` + noLogin},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, account := examined(t)
			tc.spoil(k, account)
			began := time.Now()
			p := k.start("doctor")
			select {
			case <-p.Done():
			case <-time.After(40 * time.Second):
				t.Fatal("it is still running")
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			p.differs(tc.lines)
		})
	}
}

const silence = "SSM did not answer within 5s; check the way to HOST, which AWS_ENDPOINT_URL_SSM names"

func TestDoctor_PrintsTheSameAsJSON(t *testing.T) {
	t.Parallel()
	k, account := examined(t)
	account.UnsetPublicKey("svc", 1)
	unset("SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	k.must(os.Chmod(k.dir, 0o700))
	text := k.do("doctor").checklist()

	p := k.do("doctor", "--json")
	p.want(exitFailed, "sidecar: 1 of ")
	var report doctor.Report
	decoder := json.NewDecoder(strings.NewReader(p.stdout.String()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Errorf("after the document: %v", err)
	}
	warnings := 1
	if !harden.Memory().Holds { // a warning of this build
		warnings = 2
	}
	if report.Failed != 1 || report.Warnings != warnings {
		t.Errorf("%d failed, %d warnings", report.Failed, report.Warnings)
	}
	again := &process{}
	k.must(report.Text(&again.stdout))
	if lines := again.checklist(); !slices.Equal(lines, text) {
		t.Errorf("as JSON:\n%s\nas text:\n%s", strings.Join(lines, "\n"), strings.Join(text, "\n"))
	}
}

func TestDoctor_WrongSettingIsAUsageError(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	unset("SNOWKEY_KEY_PARAMETER", "SNOWKEY_PASSPHRASE_PARAMETER")(k)
	k.do("doctor").want(exitUsage, "no key: name its parameter in --key-parameter")
	k = newTask(t)
	k.env["SNOWKEY_KEY_PARAMETERS"] = "/app/key"
	k.do("doctor").want(exitUsage, "did you mean SNOWKEY_KEY_PARAMETER?")
	k.do("docter").want(exitUsage, "did you mean sidecar doctor?")
}

// The search at the end of each process fails the test for the password.
func TestDoctor_PrintsNoPasswordOfAProxy(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	k.env["AWS_ENDPOINT_URL_SSM"], k.env["SNOWFLAKE_HOST"] = "http://ssm.invalid", "snowflake.invalid"
	escaped := url.QueryEscape(awsSecret)
	for _, proxy := range []string{
		"http://user:" + escaped + "@127.0.0.1:1", "http://" + escaped + "@127.0.0.1:1", "user:" + escaped + "@127.0.0.1:1",
	} {
		k.env["HTTP_PROXY"] = proxy
		k.do("doctor").want(exitFailed, "fail  ssm endpoint: http://ssm.invalid, ", "fail  snowflake host: http://snowflake.invalid:")
	}
	for _, malformed := range []string{
		"http://user:" + awsSecret + "@127.0.0.1:1", "http://user:" + escaped + "@127.0.0.1:1:2", "http://user:" + awsSecret + "%zz@127.0.0.1:1",
	} {
		k.env["HTTP_PROXY"] = malformed
		k.do("doctor").want(exitUsage, "HTTP_PROXY is not the address of a proxy; write http://HOST:PORT")
	}
}

func TestDoctor_CanBeInterrupted(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	hang(k)
	p := k.start("doctor")
	p.eventually("a call", func() bool {
		return slices.ContainsFunc(k.calls(0), func(c localssm.Call) bool { return c.Action == "GetCallerIdentity" })
	})
	p.end(syscall.SIGTERM)
	p.want(exitFailed, "sidecar: stopped: SIGTERM received")
	if out := p.stdout.String(); out != "" {
		t.Errorf("and yet it judges:\n%s", out)
	}
}

// One bad key is one failed line, and the other keys are checked all the same.
func TestDoctor_ChecksEachKey(t *testing.T) {
	t.Parallel()
	k := several(t, "etl", "report")
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	k.do("once").want(exitDone)
	k.ssm.DenyDecrypt("/report/key")
	p := k.do("doctor")
	lines := strings.Join(p.checklist(), "\n")
	for _, want := range []string{
		"ok    etl, key decryption: allowed\n",
		k.fill("ok    etl, published key: OLD, the newest\n"),
		"ok    parameters of the keys: each key has its own\n",
		"fail  report, key decryption: AccessDeniedException: ",
		"skip  report, key (key decryption failed)\n",
		"skip  report, snowflake host (SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER are not set)\n",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	p.want(exitFailed, "sidecar: 1 of 55 checks failed")
}

// The volume of a new task is empty: a sidecar creates the directories of its keys there.
func TestDoctor_BeforeTheKeysDirectoriesExist(t *testing.T) {
	t.Parallel()
	k := several(t, "etl")
	k.must(os.Chmod(k.dir, 0o750))
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	p := k.do("doctor")
	p.want(exitDone)
	lines := strings.Join(p.checklist(), "\n")
	for _, want := range []string{
		k.fill("ok    etl, directory: the sidecar creates DIR/etl in DIR, UID:GID 0750\n"),
		k.fill("ok    etl, writing: uid UID can write there\n"),
		"warn  etl, published key: none yet; start the sidecar: sidecar run\n",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	k.must(os.RemoveAll(k.dir))
	k.do("doctor").want(exitFailed, k.fill("fail  etl, directory: DIR: no such file or directory\n      fix: create the directory: mkdir DIR"))
}

// A managed secret names account and user, so the settings need not.
func TestDoctor_ReadsAManagedSecret(t *testing.T) {
	t.Parallel()
	k, _ := examined(t)
	k.ofSecret()
	unset("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER")(k)
	id := k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase))
	k.do("once").want(exitDone)
	k.do("doctor").differs(`ok    key parameter: ` + secretReference + `, SecureString, version ` + id + ` of TIME
skip  passphrase parameter (--passphrase-parameter is not set)
skip  passphrase decryption (--passphrase-parameter is not set)
ok    last refresh: SECONDS ago, of ` + k.status().Source)
}

// troubleshooting.md shows the checks that the program makes.
func TestDoctor_DocumentationShowsEveryCheck(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(content(t, "../docs/troubleshooting.md"), "$ sidecar doctor\n")
	shown, _, end := strings.Cut(rest, "```\n")
	if !found || !end {
		t.Fatal("troubleshooting.md has no sample")
	}
	lines, want := strings.Split(oneLineEach(shown), "\n"), strings.Split(newTask(t).fill(allIsWell), "\n")
	for i := range want {
		if line := at(lines, i); checkName.FindString(line) == "" || checkOf(line) != checkOf(want[i]) {
			t.Errorf("line %d is %q, where the program has %q", i+1, line, checkOf(want[i]))
		}
	}
}
