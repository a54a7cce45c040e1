package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The key, and the socket, are there when CMD starts, and its status is the sidecar's.
func TestExec_EndsAsCMDEnds(t *testing.T) {
	t.Parallel()
	for script, status := range map[string]int{
		"exit 0":                    0,
		"exit 7":                    7,
		"exit 255":                  255,
		"kill -KILL $$":             137,
		"kill -TERM $$":             143,
		"kill -HUP $$":              129,
		"sleep 1.2; kill -KILL $$;": 137, // as when memory runs out
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			p := k.exec(nil, sh(`cd "$SNOWKEY_DIR" && test -S refresh.sock && cat rsa_key.pem >key.copy && test -s rsa_key.der || exit 99; `+script))
			p.wait()
			p.want(status)
			if content(t, filepath.Join(k.dir, "key.copy")) != content(t, filepath.Join(k.dir, "rsa_key.pem")) {
				t.Error("CMD has read something else")
			}
			if ended := p.last("command ended"); ended.ExitCode != status {
				t.Errorf("the log says %+v", ended)
			}
			if strings.Contains(p.stderr.String(), "sidecar:") {
				t.Errorf("it has words of its own for how CMD ended:\n%s", &p.stderr)
			}
		})
	}
}

func TestExec_CMDHasArgumentsAndStreamsUnchanged(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.stdin = strings.NewReader("from stdin\n")
	p := k.exec(nil, append(sh(`cat; for a; do echo "[$a]"; done; echo to stderr >&2; pwd`), "zero", "--interval=5m", "once", "--", "a b", ""))
	p.wait()
	p.want(0, "to stderr\n")
	here, err := os.Getwd()
	k.must(err)
	if out, want := p.stdout.String(), "from stdin\n[--interval=5m]\n[once]\n[--]\n[a b]\n[]\n"+here+"\n"; out != want {
		t.Errorf("stdout is\n%s, want\n%s", out, want)
	}
}

// CMD's environment is read from /proc, where any process of its user can read it.
func TestExec_CMDHasTheEnvironmentWithoutSecrets(t *testing.T) {
	t.Parallel()
	k := fromEnvironment(t)
	k.env["SNOWKEY_INTERVAL"] = "1h"
	k.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/1"
	k.env["APP_SETTING"] = "its own"
	p := k.exec(nil, sh("echo ready; while :; do sleep 0.02; done"))
	p.says("ready", 1)
	data := content(t, fmt.Sprintf("/proc/%d/environ", p.pid()))
	want := []string{"SNOWKEY_DIR=" + k.dir}
	for name, value := range k.env {
		if name != "SECRET_KEY" && name != "PRIVATE_KEY_PASSPHRASE" {
			want = append(want, name+"="+value)
		}
	}
	got := slices.DeleteFunc(strings.Split(strings.TrimRight(data, "\x00"), "\x00"), func(entry string) bool {
		return strings.HasPrefix(entry, "PWD=") || strings.HasPrefix(entry, "OLDPWD=") || strings.HasPrefix(entry, "_=") || strings.HasPrefix(entry, "SHLVL=") // sh's
	})
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("CMD has\n%q\nwant\n%q", got, want)
	}
}

func TestExec_CMDHasItsOwnSecretKey(t *testing.T) {
	t.Parallel()
	const itsOwn = "django-insecure-x1y2z3"
	k := newTask(t)
	k.env["SECRET_KEY"] = itsOwn
	p := k.exec(nil, sh(`echo "has $SECRET_KEY"; while :; do sleep 0.02; done`))
	p.says("has "+itsOwn, 1)

	k = newTask(t)
	k.withoutAWS()
	k.env["SECRET_KEY"], k.env["SNOWKEY_SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = itsOwn, content(t, oldKey), passphrase
	p = k.exec(nil, sh(`echo "has $SECRET_KEY, not ${SNOWKEY_SECRET_KEY:-the key}"; while :; do sleep 0.02; done`))
	p.says("has "+itsOwn+", not the key", 1)
}

func TestExec_CMDHasItsOwnPassphrase(t *testing.T) {
	t.Parallel()
	k := newTask(t) // the parameters name key and passphrase
	k.env["PRIVATE_KEY_PASSPHRASE"] = "of another key"
	p := k.exec(nil, sh(`echo "has $PRIVATE_KEY_PASSPHRASE"; while :; do sleep 0.02; done`))
	p.says("has of another key", 1)
}

// The sidecar's own environment and memory are closed to CMD, which has the same user.
func TestExec_CMDCannotReadTheSidecarsEnvironment(t *testing.T) {
	t.Parallel()
	k := fromEnvironment(t)
	k.unprivileged()
	p := k.exec(nil, sh(`for f in environ mem maps; do cat /proc/$PPID/$f >/dev/null && echo "read $f"; done; cat /proc/$$/environ >/dev/null && echo "and its own"`))
	p.wait()
	if os.Getuid() == 0 || !strings.Contains(p.stdout.String(), "read") {
		p.want(0, "Permission denied")
	}
	if out := p.stdout.String(); out != "and its own\n" {
		t.Errorf("stdout is %q", out)
	}
}

func TestExec_ExplainsACMDThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		script string
		status int
		level  string
		says   string
	}{
		{"echo oh no >&2; exit 3", 3, "WARN", "what it wrote above says why"},
		{"exit 0", 0, "INFO", ""},
		{"sleep 3 >/dev/null 2>&1 &", 0, "WARN", "run it in the foreground"}, // as a daemon does
		{"sleep 1.2; exit 3", 3, "INFO", ""},
	} {
		t.Run(tc.script, func(t *testing.T) {
			t.Parallel()
			p := newTask(t).exec(nil, sh(tc.script))
			p.wait()
			p.want(tc.status)
			ended := p.last("command ended")
			if ended.Level != tc.level || !strings.Contains(ended.Advice, tc.says) || (tc.says == "") != (ended.Advice == "") {
				t.Errorf("the log says %+v", ended)
			}
			if tc.says != "" && !strings.Contains(ended.Advice, "task definition") {
				t.Errorf("not what to change: %q", ended.Advice)
			}
		})
	}
}

// The usual mistake: a shell that is stopped leaves the program it started, which then dies unheard.
func TestExec_ExplainsAShellThatEndsBeforeItsProgram(t *testing.T) {
	t.Parallel()
	p := newTask(t).exec(nil, sh("sleep 5 >/dev/null 2>&1 & echo ready; wait"))
	p.says("ready", 1)
	p.pid()
	p.end(syscall.SIGTERM)
	p.want(143)
	if do := p.last("command ended").Advice; !strings.Contains(do, "with exec if a shell starts it") {
		t.Errorf("the log says %q", do)
	}
}

// leavesOrphans makes some of every kind: dead before their parent, with it, after it, and by a signal.
const leavesOrphans = `
i=0
while [ $i -lt 10 ]; do
	i=$((i+1))
	(sh -c 'exit 3' & sh -c 'sleep 0.1; exit 4' & sh -c 'sleep 0.3; kill -9 $$' & sh -c 'exec sleep 1000' & echo orphan $!) &
done
wait
echo left`

// No zombie stays, whatever its parent, and whether or not the sidecar is the first process. CMD's own status is not
// lost among theirs.
func TestExec_CollectsOrphans(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]uintptr{"as the first process": syscall.CLONE_NEWPID, "as another": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if flags != 0 && os.Getuid() != 0 {
				t.Skip("only root starts a first process")
			}
			k := newTask(t)
			k.attr.Cloneflags = flags
			p := k.exec(nil, sh("exec 2>/dev/null; trap 'exit 7' TERM;"+leavesOrphans+"; while :; do sleep 0.02; done"))
			p.says("left", 1)
			sidecar := p.PID()
			children := func() (living, zombies int) {
				for _, c := range processes() {
					switch {
					case c.parent != sidecar:
					case c.zombie:
						zombies++
					default:
						living++
					}
				}
				return living, zombies
			}
			p.eventually("CMD and ten orphans, and no zombie", func() bool {
				living, zombies := children()
				return living == 11 && zombies == 0
			})
			for _, c := range processes() {
				if c.parent == sidecar && c.pid != p.group(c.pid) {
					_ = syscall.Kill(c.pid, syscall.SIGKILL)
				}
			}
			p.eventually("CMD alone", func() bool {
				living, zombies := children()
				return living == 1 && zombies == 0
			})
			p.end(syscall.SIGTERM)
			p.want(7)
		})
	}
}

// group is the process group of a process: its own number for CMD.
func (p *process) group(pid int) int {
	group, err := syscall.Getpgid(pid)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Error(err)
	}
	return group
}

// CMD goes on when the log has no reader any more.
func TestExec_UnreadLogEndsNothing(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	read, write, err := os.Pipe()
	k.must(err)
	k.env["SNOWKEY_DIR"] = k.dir
	cmd := exec.Command(k.program, append([]string{"exec", "--on-change=restart", "--"}, sh("echo >>\"$SNOWKEY_DIR/starts\"; exec sleep 1000")...)...)
	for name, value := range k.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stderr = write
	k.must(cmd.Start())
	write.Close()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 143 {
			t.Errorf("exit code %d", code)
		}
	}()
	starts := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
			data, _ := os.ReadFile(filepath.Join(k.dir, "starts"))
			if len(data) == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d starts, want %d", len(data), n)
			}
		}
	}
	starts(1)
	read.Close()
	k.ssm.Put(keyParameter, content(t, nextKey))
	k.must(k.connect())
	starts(2)
}

func TestExec_RequiresTheDashes(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"exec"}, "no CMD: write sidecar exec [flags] -- CMD ARGS..."},
		{[]string{"exec", "--"}, "no CMD"},
		{[]string{"exec", "--interval=5m"}, "no CMD"},
		{[]string{"exec", notAKey}, "-- goes between the flags and CMD"},
		{[]string{"exec", notAKey, "--", "true"}, "-- goes between the flags and CMD"},
		{[]string{"exec", "--intervall=5m", "--", "true"}, "no such flag: --intervall"},
		{[]string{"run", "--on-change=restart"}, "no such flag: --on-change"},
		{[]string{"once", "--stop-timeout=1s"}, "no such flag: --stop-timeout"},
		{[]string{"exec", "--on-change=reload", "--", "true"}, "write none, restart, or the name of a signal, such as SIGHUP"},
		{[]string{"exec", "--on-change=", "--", "true"}, "write none, restart, or the name of a signal, such as SIGHUP"},
		{[]string{"exec", "--on-change=hup", "--", "true"}, "write none, restart, or the name of a signal, such as SIGHUP"},
		{[]string{"exec", "--on-change=SIGKILL", "--", "true"}, "no program can handle this signal"},
		{[]string{"exec", "--stop-timeout=0s", "--", "true"}, "the shortest is 1s"},
		{[]string{"exec", "--stop-timeout=30", "--", "true"}, "write a duration with its unit"},
		{[]string{"exec", "--start-timeout=-1s", "--", "true"}, "the shortest is 0s"},
	} {
		k.do(tc.args...).want(exitUsage, tc.says)
	}
	if calls := k.calls(0); len(calls) > 0 {
		t.Errorf("calls to SSM: %v", calls)
	}
	k.env["SNOWKEY_ON_CHANGE"] = "SIGHUP" // is nothing to the other commands
	k.do("once").want(exitDone)
	k.do("healthcheck").want(exitDone)
}
