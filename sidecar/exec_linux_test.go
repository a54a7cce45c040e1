package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// beListener makes this test binary a CMD that prints every signal it gets, by number.
const beListener = "TEST_BINARY_IS_A_LISTENER"

func init() {
	if os.Getenv(beListener) == "" {
		return
	}
	signals := make(chan os.Signal, 100)
	signal.Notify(signals)
	fmt.Println("listening")
	for s := range signals {
		fmt.Println("got", int(s.(syscall.Signal)))
	}
}

// listener is the command line for it. Its scheduler uses no SIGURG, so that each one came from outside.
func (k *task) listener() []string {
	return []string{"env", "-u", beSidecar, beListener + "=yes", "GODEBUG=asyncpreemptoff=1", k.program}
}

// sh is a command line that runs a script.
func sh(script string) []string { return []string{"sh", "-c", script} }

// exec starts `exec` with flags and CMD. The interval is the shortest there is, since the socket takes one request in
// five seconds, and CMD gets every SIGHUP.
func (k *task) exec(flags, command []string) *process {
	k.t.Helper()
	p := k.start(slices.Concat([]string{"exec", "--interval=1s"}, flags, []string{"--"}, command)...)
	k.t.Cleanup(func() { // CMD would outlive the sidecar
		left := descendants(p.cmd.Process.Pid)
		_ = p.cmd.Process.Kill()
		for _, child := range left {
			_ = syscall.Kill(child.pid, syscall.SIGKILL)
		}
		p.wait()
	})
	return p
}

// says waits until CMD has written these words so many times.
func (p *process) says(words string, times int) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("CMD says %q %d times", words, times), func() bool {
		return strings.Count(p.stdout.String(), words) >= times
	})
}

// pid is the process id of the CMD that was started last.
func (p *process) pid() int {
	p.t.Helper()
	p.eventually("CMD is started", func() bool { return p.count("command started") > 0 })
	return p.last("command started").Pid
}

// rotate stores a key and waits until it is published.
func (p *process) rotate(key, fingerprintFile string) {
	p.t.Helper()
	p.ssm.Put(keyParameter, content(p.t, key))
	p.follows(fingerprint(p.t, fingerprintFile))
}

// refreshAgain waits for two refreshes: the second begins only after all that follows from the first.
func (p *process) refreshAgain() {
	p.t.Helper()
	for range 2 {
		before := p.refreshed()
		p.eventually("a refresh", func() bool { return p.refreshed().After(before) })
	}
}

// lastLine is what ECS shows last.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	return lines[len(lines)-1]
}

// A descendant is a process as /proc has it.
type descendant struct {
	pid, parent int
	zombie      bool
}

// processes are all that there are.
func processes() []descendant {
	var all []descendant
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		before, after, _ := strings.Cut(string(data), "(")
		fields := strings.Fields(after[strings.LastIndex(after, ")")+1:])
		pid, _ := strconv.Atoi(strings.TrimSpace(before))
		parent, _ := strconv.Atoi(fields[1])
		all = append(all, descendant{pid, parent, fields[0] == "Z"})
	}
	return all
}

// descendants are a process's children and theirs.
func descendants(pid int) []descendant {
	var found []descendant
	all := processes()
	for parents := []int{pid}; len(parents) > 0; parents = parents[1:] {
		for _, p := range all {
			if p.parent == parents[0] {
				found = append(found, p)
				parents = append(parents, p.pid)
			}
		}
	}
	return found
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

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

func TestExec_PassesEverySignalOnOnce(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec(nil, k.listener())
	p.says("listening", 1)
	var want []string
	for s := syscall.Signal(1); s <= 64; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, 32, 33, 34: // not to be caught; the C library's
			continue
		case syscall.SIGTTIN, syscall.SIGTTOU: // from the sidecar's own terminal, and they stop it
			continue
		case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGPROF:
			continue // faults of the sidecar itself
		}
		p.signal(s)
		if slices.Contains([]syscall.Signal{syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE}, s) {
			continue // about the sidecar itself, not to be passed on
		}
		want = append(want, fmt.Sprintf("got %d\n", s))
		p.says(want[len(want)-1], 1)
	}
	if got := strings.TrimPrefix(p.stdout.String(), "listening\n"); got != strings.Join(want, "") {
		t.Errorf("CMD says\n%s\nwant\n%s", got, strings.Join(want, ""))
	}
}

func TestExec_SignalIgnoredByNohupStaysIgnored(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	sidecar := k.program
	k.program = "nohup"
	p := k.start(sidecar, "exec", "--", "sh", "-c", "echo ready; kill -HUP $$; sleep 0.3; exit 7")
	p.says("ready", 1)
	p.signal(syscall.SIGHUP)
	p.wait()
	p.want(7)
}

func TestExec_CMDDecidesWhatASignalMeans(t *testing.T) {
	t.Parallel()
	for sig, number := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1} {
		t.Run(sig, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			p := k.exec(nil, sh("trap 'echo bye; exit 5' "+sig+"; echo ready; while :; do sleep 0.02; done"))
			p.says("ready", 1)
			p.end(number)
			p.want(5, "bye")
			k.do("healthcheck").want(exitDone) // the files stay
			if _, err := os.Lstat(filepath.Join(k.dir, keyfile.RefreshSocketName)); err == nil {
				t.Error("the socket was left behind")
			}

			p = k.exec(nil, sh("echo ready; exec sleep 1000"))
			p.says("ready", 1)
			p.pid()
			p.end(number)
			p.want(128 + int(number))
		})
	}
}

// A terminal sends SIGINT to its foreground group: CMD gets it once, not again from the sidecar, and it
// can read.
func TestExec_TerminalsSIGINTComesOnce(t *testing.T) {
	t.Parallel()
	terminal, tty := openTerminal(t)
	k := newTask(t)
	k.stdin = tty
	k.attr.Setsid, k.attr.Setctty = true, true
	p := k.exec(nil, append(sh(`read line; echo "read $line"; exec "$@"`), append([]string{"sh"}, k.listener()...)...))
	_, err := terminal.Write([]byte("a line\n"))
	k.must(err)
	p.says("read a line", 1)
	p.says("listening", 1)
	_, err = terminal.Write([]byte{3}) // Ctrl-C
	k.must(err)
	p.says("got 2\n", 1)
	p.signal(syscall.SIGUSR1) // what was on its way has come by now
	p.says("got 10\n", 1)
	if out := p.stdout.String(); strings.Count(out, "got") != 2 {
		t.Errorf("CMD says\n%s", out)
	}
}

// A script may go on after exec; and a CMD that is started again has the terminal, too.
func TestExec_CMDHasTheTerminal(t *testing.T) {
	t.Parallel()
	terminal, tty := openTerminal(t)
	k := newTask(t)
	k.stdin = tty
	k.attr.Setsid, k.attr.Setctty = true, true
	sidecar := k.program
	k.program = "sh"
	p := k.start("-c", `"$0" exec --interval=1s --on-change=restart -- sh -c 'echo ready; read line; echo "CMD read $line"'; read line; echo "script read $line"`, sidecar)
	p.says("ready", 1)
	p.rotate(nextKey, nextFingerprint)
	p.says("ready", 2)
	_, err := terminal.WriteString("one\n")
	k.must(err)
	p.says("CMD read one", 1)
	p.eventually("CMD has ended", func() bool { return p.count("command ended") > 0 })
	_, err = terminal.WriteString("two\n")
	k.must(err)
	p.wait()
	p.want(0, "script read two")
}

func openTerminal(t *testing.T) (terminal, tty *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { terminal.Close() })
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { tty.Close() })
	return terminal, tty
}

func TestExec_CMDMayOutliveSIGTERM(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec(nil, k.listener()) // which does not
	p.says("listening", 1)
	p.signal(syscall.SIGTERM)
	p.says("got 15\n", 1)
	const warning = "the command goes on after SIGTERM"
	p.eventually("a warning", func() bool { return p.count(warning) == 1 })
	for _, words := range []string{"stopTimeout in the task definition", "with exec"} {
		if do := p.last(warning).Advice; !strings.Contains(do, words) {
			t.Errorf("no %q in %q", words, do)
		}
	}
	p.rotate(nextKey, nextFingerprint) // it may need the key to end well
	if !alive(p.pid()) {
		t.Error("it was killed, which is up to ECS")
	}
	k.must(syscall.Kill(p.pid(), syscall.SIGKILL))
	p.wait()
	p.want(137, "raise `memory`")
}

// Before there is a key a signal is for the sidecar itself. That CMD did not run is no success.
func TestExec_SignalBeforeTheFirstKey(t *testing.T) {
	for sig, status := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGQUIT: 131} {
		t.Run(sig.String(), func(t *testing.T) {
			k := newTask(t)
			hang(k)
			p := k.exec(nil, sh("touch started"))
			p.eventually("a call", func() bool { return len(k.calls(0)) > 0 })
			began := time.Now()
			p.end(sig)
			if took := time.Since(began); took > 10*time.Second { // a call to SSM may take 20
				t.Errorf("it took %v", took)
			}
			p.want(status)
			if last, want := p.lastLine(), "sidecar: no key from /app/key, so CMD was not started: "+unix.SignalName(sig)+" came first"; last != want {
				t.Errorf("the last line is %q, want %q", last, want)
			}
		})
	}
}

func TestExec_WaitsOutPassingFailures(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*task){"an error of AWS's own": serverError, "an expired token": expiredToken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			spoil(k)
			p := k.exec(nil, sh("echo started; exit 4"))
			p.eventually("it tries", func() bool { return p.count("refresh failed") > 0 })
			for range 2 {
				failures := p.count("refresh failed")
				p.signal(syscall.SIGHUP) // without a CMD, SIGHUP makes the sidecar refresh, as with `run`
				p.eventually("it tries again", func() bool { return p.count("refresh failed") > failures })
			}
			p.signal(syscall.SIGUSR1) // has no receiver, and does not come to CMD later
			if out := p.stdout.String(); out != "" {
				t.Errorf("CMD was started without a key: %s", out)
			}
			k.heal()
			p.signal(syscall.SIGHUP)
			p.wait()
			p.want(4, "started\n")
			if p.count("recovered") != 1 || p.count("command started") != 1 {
				t.Errorf("the log is\n%s", &p.stderr)
			}
		})
	}
}

func TestExec_StartTimeoutEndsTheWait(t *testing.T) {
	t.Parallel()
	for _, bad := range slices.Concat(badAnswers, badSurroundings) {
		if bad.exit == exitRefused || bad.name == "throttling" { // where a call takes the SDK's retries longer
			continue
		}
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			bad.spoil(k)
			k.env["AWS_MAX_ATTEMPTS"] = "1"
			p := k.exec([]string{"--start-timeout=2s"}, sh("echo started"))
			p.wait()
			p.want(exitFailed)
			p.refused(append(bad.says, "gave up after 2s (--start-timeout)"))
		})
	}
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		k := newTask(t)
		hang(k)
		p := k.exec([]string{"--start-timeout=500ms"}, sh("echo started"))
		p.wait()
		p.want(exitFailed)
		p.refused([]string{"gave up after 500ms (--start-timeout): there was no answer yet"})
	})
}

// refused checks that CMD was not started and that the last line is the reason.
func (p *process) refused(says []string) {
	p.t.Helper()
	last := p.lastLine()
	if !strings.HasPrefix(last, "sidecar: no key from ") || !strings.Contains(last, "so CMD was not started: ") {
		p.t.Errorf("the last line is %q", last)
	}
	for _, words := range says {
		if !strings.Contains(last, words) {
			p.t.Errorf("no %q in the last line: %q", words, last)
		}
	}
	if p.count("command started") > 0 || strings.Contains(p.stdout.String(), "started") {
		p.t.Error("CMD was started")
	}
}

func TestExec_RefusesPermanentFailuresAtOnce(t *testing.T) {
	t.Parallel()
	for _, bad := range slices.Concat(badValues, badAnswers, badSurroundings) {
		if bad.exit != exitRefused {
			continue
		}
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			bad.spoil(k)
			p := k.exec(nil, sh("echo started"))
			p.wait()
			p.want(exitRefused)
			p.refused(bad.says)
		})
	}
	for name, spoil := range map[string]func(*task){
		"wrong passphrase in the environment": set("PRIVATE_KEY_PASSPHRASE", wrongPassphrase),
		"no key in the environment":           set("SECRET_KEY", "-----BEGIN PRIVATE KEY-----\n"+notAKey),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fromEnvironment(t)
			k.publish() // which does not help: what the environment holds cannot get better
			spoil(k)
			p := k.exec(nil, sh("echo started"))
			p.wait()
			p.want(exitRefused)
			p.refused([]string{"SECRET_KEY"})
		})
	}
}

// The directory is a mount of the same container, so nothing is gained by waiting for it.
func TestExec_RefusesABadDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	for _, bad := range badDirectories {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			if bad.prepare != nil {
				bad.prepare(k)
			}
			k.do("once").want(exitDone) // what was there before does not help
			k.ssm.Put(keyParameter, content(t, nextKey))
			repair := bad.spoil(k)
			defer repair()
			p := k.exec(nil, sh("echo started"))
			p.wait()
			p.want(exitFailed)
			p.refused(bad.says)
		})
	}
}

// exec waits for one that ends, as a task does that is replaced on its host, and does not take its key.
func TestExec_WaitsForASidecarWithAnotherKey(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Put(otherParameter, content(t, nextKey))
	first := k.run("--key-parameter=" + otherParameter)
	second := k.exec(nil, sh(`cat "$SNOWKEY_DIR/status.json"`))
	second.eventually("it tries twice", func() bool { return second.count("refresh failed") > 1 })
	if second.count("command started") > 0 {
		t.Errorf("CMD was started with another's key:\n%s", &second.stderr)
	}
	first.end(syscall.SIGTERM)
	second.wait()
	second.want(exitDone, fingerprint(t, oldFingerprint))
}

func TestExec_StartTimeoutEndsTheWaitForASidecar(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Put(otherParameter, content(t, nextKey))
	k.run("--key-parameter=" + otherParameter)
	p := k.exec([]string{"--start-timeout=1s"}, sh("echo started"))
	p.wait()
	p.want(exitFailed)
	p.refused([]string{"gave up after 1s (--start-timeout)", "a sidecar that publishes " + arnOf(otherParameter) + " has locked " + k.dir, "a volume of its own"})
}

// A container that restarts during an outage continues with the key that is on disk, and its CMD is told of the next one.
func TestExec_StartsWithTheKeyOnDiskDespiteFailures(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*task){
		"an outage": serverError,
		"no access": func(k *task) { // the ARN says that it is the same parameter
			k.env["SNOWKEY_KEY_PARAMETER"] = arnOf(keyParameter)
			k.ssm.DenyParameter(keyParameter)
		},
		"a bad pair": put(passParameter, wrongPassphrase),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.publish()
			spoil(k)
			p := k.exec([]string{"--on-change=SIGHUP"}, k.listener())
			p.says("listening", 1)
			k.heal()
			p.rotate(nextKey, nextFingerprint)
			p.says("got 1\n", 1)
		})
	}
}

func TestExec_ReportsAnUnusableCMDBeforeAnyCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("closed", "#!/bin/sh\n", 0o644)
	for _, tc := range []struct {
		name, cmd string
		status    int
		says      []string
	}{
		{"no such name", "no-such-program", 127, []string{`no program "no-such-program" in PATH`, dir, "`command` in the task definition", "absolute path"}},
		{"no such file", "/app/no-such-program", 127, []string{"/app/no-such-program: no such file", "`command` in the task definition", "image"}},
		{"under a file", "/etc/passwd/program", 127, []string{"/etc/passwd/program: not a directory", "`command` in the task definition"}},
		{"an empty name", "", 127, []string{"no program", "`command` in the task definition"}},
		{"a relative name", "./no-such-program", 127, []string{"./no-such-program: no such file"}},
		{"not executable", filepath.Join(dir, "closed"), 126, []string{"closed: permission denied", "chmod 0755", "noexec", "uid "}},
		{"not executable in PATH", "closed", 126, []string{dir + "/closed: permission denied", "chmod 0755"}},
		{"a directory", dir, 126, []string{dir + ": is a directory", "name a program"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.env["PATH"] = ".::" + dir + ":" + k.env["PATH"]
			p := k.exec(nil, []string{tc.cmd, "argument"})
			p.wait()
			p.want(tc.status, tc.says...)
			if !strings.HasPrefix(p.lastLine(), "sidecar: CMD: ") || strings.Contains(p.stderr.String(), "argument") {
				t.Errorf("it says\n%s", &p.stderr)
			}
			if calls := k.calls(0); len(calls) > 0 {
				t.Errorf("calls to SSM: %v", calls)
			}
		})
	}

	// What only the attempt shows.
	for _, tc := range []struct {
		name, text string
		status     int
		says       []string
	}{
		{"interpreter", "#!/no/such/interpreter\n", 127, []string{"interpreter is there, but not what it is run with", "install the interpreter", "glibc or musl"}},
		{"format", "\x7fELF of something else", 126, []string{"format: exec format error", "runtimePlatform in the task definition"}},
		{"no-first-line", "echo hello\n", 126, []string{"exec format error", "a script begins with #!"}},
	} {
		path := write(tc.name, tc.text, 0o755)
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newTask(t).exec(nil, []string{path})
			p.wait()
			p.want(tc.status, tc.says...)
			if !strings.HasPrefix(p.lastLine(), "sidecar: CMD: ") {
				t.Errorf("the last line is %q", p.lastLine())
			}
		})
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

func TestOnChange_NoneLeavesCMDAlone(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec(nil, k.listener())
	p.says("listening", 1)
	p.rotate(nextKey, nextFingerprint)
	p.refreshAgain()
	if out := p.stdout.String(); out != "listening\n" || p.count("command started") != 1 {
		t.Errorf("CMD says %q", out)
	}
	k.do("healthcheck").want(exitDone)
}

func TestOnChange_Signal(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"SIGHUP": 1, "SIGUSR2": 12, "SIGTERM": 15} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.env["SNOWKEY_ON_CHANGE"] = name
			p := k.exec(nil, k.listener())
			p.says("listening", 1)
			got := fmt.Sprintf("got %d\n", number)
			p.rotate(nextKey, nextFingerprint)
			p.says(got, 1)
			k.must(os.Remove(filepath.Join(k.dir, "rsa_key.der"))) // written again, but no other key
			p.refreshAgain()
			k.do("healthcheck").want(exitDone)
			p.rotate(oldKey, oldFingerprint)
			p.says(got, 2)
			p.refreshAgain()
			if out := p.stdout.String(); out != "listening\n"+got+got {
				t.Errorf("CMD says %q", out)
			}
		})
	}
}

// A rotation that CMD does not survive ends the task with CMD's status.
func TestOnChange_CMDThatEndsEndsTheSidecar(t *testing.T) {
	t.Parallel()
	for script, status := range map[string]int{
		"trap 'exit 9' HUP; echo ready; while :; do sleep 0.02; done": 9,
		"echo ready; exec sleep 1000":                                 129, // which is what SIGHUP does to who does not know it
	} {
		p := newTask(t).exec([]string{"--on-change", "SIGHUP"}, sh(script))
		p.says("ready", 1)
		p.pid()
		p.ssm.Put(keyParameter, content(t, nextKey))
		p.wait()
		p.want(status)
	}
}

// showsKey is the start of scripts that say which key they find.
const showsKey = `echo "started with $(sha256sum <"$SNOWKEY_DIR/rsa_key.pem")"; `

func TestOnChange_Restart(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec([]string{"--on-change=restart"}, sh(showsKey+"exec sleep 1000"))
	p.says("started with", 1)
	first := p.pid()
	for i, next := range []struct{ key, fingerprint string }{{nextKey, nextFingerprint}, {oldKey, oldFingerprint}, {nextKey, nextFingerprint}} {
		p.rotate(next.key, next.fingerprint)
		p.says("started with", i+2)
		p.eventually("the log says so", func() bool { return p.count("command started") == i+2 })
	}
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	if lines[0] != lines[2] || lines[1] != lines[3] || lines[0] == lines[1] {
		t.Errorf("the keys that it found:\n%s", &p.stdout)
	}
	if alive(first) || !alive(p.pid()) || p.count("command killed: it did not end after SIGTERM") > 0 {
		t.Errorf("the log is\n%s", &p.stderr)
	}
	p.end(syscall.SIGTERM)
	p.want(143)
}

// It ignores SIGTERM, and so does what it has started; neither is left to hold a port or a lock.
func TestRestart_KillsACMDThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec([]string{"--on-change=restart", "--stop-timeout=1s"}, sh("trap '' TERM; sleep 1000 & echo child $! of $$; wait"))
	p.says("child", 1)
	var child, parent int
	if _, err := fmt.Sscanf(p.stdout.String(), "child %d of %d", &child, &parent); err != nil {
		t.Fatal(err)
	}
	p.rotate(nextKey, nextFingerprint)
	p.says("child", 2)
	if alive(child) || alive(parent) {
		t.Error("the old ones live on")
	}
	killed := p.last("command killed: it did not end after SIGTERM")
	if killed.Level != "WARN" || !strings.Contains(killed.Advice, "--stop-timeout") {
		t.Errorf("the log is\n%s", &p.stderr)
	}
	p.eventually("the log says so", func() bool { return p.count("command started") == 2 })
}

// leaves is a shell that ends at SIGTERM and leaves a program, which then does this.
func leaves(atSIGTERM string) []string {
	return sh(`sh -c 'trap "` + atSIGTERM + `" TERM; echo child $$; while :; do sleep 0.02; done' & wait`)
}

// The shell obeys, and what it has started does not hear of it from there.
func TestRestart_WaitsForTheProcessGroup(t *testing.T) {
	t.Parallel()
	p := newTask(t).exec([]string{"--on-change=restart"}, leaves("sleep 0.3; echo bye; exit"))
	p.says("child", 1)
	p.rotate(nextKey, nextFingerprint)
	p.says("child", 2)
	lines := strings.Split(p.stdout.String(), "\n")
	if lines[1] != "bye" || alive(child(t, lines[0])) || p.count(leftKilled) > 0 {
		t.Errorf("CMD says\n%s\nand the log\n%s", &p.stdout, &p.stderr)
	}
}

const leftKilled = "what the command left was killed: it did not end after SIGTERM"

func child(t *testing.T, line string) (pid int) {
	t.Helper()
	if _, err := fmt.Sscanf(line, "child %d", &pid); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return pid
}

func TestRestart_KillsTheProcessGroupAfterStopTimeout(t *testing.T) {
	t.Parallel()
	p := newTask(t).exec([]string{"--on-change=restart", "--stop-timeout=1s"}, leaves(""))
	p.says("child", 1)
	p.rotate(nextKey, nextFingerprint)
	p.says("child", 2)
	if alive(child(t, p.stdout.String())) {
		t.Error("it lives on")
	}
	p.eventually("it says so", func() bool { return strings.Contains(p.stderr.String(), leftKilled) })
	if killed := p.last(leftKilled); killed.Level != "WARN" || !strings.Contains(killed.Advice, "--stop-timeout") {
		t.Errorf("the log is\n%s", &p.stderr)
	}
}

// CMD has ended and its children have not: a signal to end is not kept for a new CMD.
func TestRestart_SIGTERMWhileTheProcessGroupEnds(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := newTask(t).exec([]string{"--on-change=restart"}, leaves("echo told"))
			p.says("child", 1)
			left := child(t, p.stdout.String())
			t.Cleanup(func() { _ = syscall.Kill(left, syscall.SIGKILL) })
			p.rotate(nextKey, nextFingerprint)
			p.says("told", 1)
			p.signal(syscall.SIGUSR1) // has no receiver
			began := time.Now()
			p.end(sig)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			p.want(143)
			if p.count("command started") != 1 {
				t.Errorf("the log is\n%s", &p.stderr)
			}
		})
	}
}

func TestRestart_ChangesMeanwhileAreOne(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec([]string{"--on-change=restart"}, sh(showsKey+endsWhenAllowed))
	p.says("ready", 1)
	p.rotate(nextKey, nextFingerprint)
	p.eventually("it restarts", func() bool { return p.count("command restarts") > 0 })
	p.rotate(oldKey, oldFingerprint)
	p.rotate(nextKey, nextFingerprint)
	p.rotate(oldKey, oldFingerprint)
	k.allow()
	p.says("ready", 2)
	p.refreshAgain()
	if n := p.count("command started"); n != 2 || p.count("command restarts") != 1 {
		t.Errorf("the log is\n%s", &p.stderr)
	}
	lines := strings.Split(p.stdout.String(), "\n")
	if lines[0] != lines[2] {
		t.Errorf("it was not started with the newest key:\n%s", &p.stdout)
	}
}

// endsWhenAllowed is a script that ends some time after SIGTERM: when allow says so.
const endsWhenAllowed = `trap : INT QUIT; trap 'until test -e "$SNOWKEY_DIR/allowed"; do sleep 0.02; done; exit 6' TERM; echo ready; while :; do sleep 0.02; done`

func (k *task) allow() {
	k.t.Helper()
	k.must(os.WriteFile(filepath.Join(k.dir, "allowed"), nil, 0o600))
}

// A CMD that ends by itself ends the sidecar, also in the middle of a refresh.
func TestRestart_NotAfterCMDEndsByItself(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.exec([]string{"--on-change=restart"}, sh("echo ready; read x <"+filepath.Join(k.dir, "fifo")+"; exit 7"))
	k.must(syscall.Mkfifo(filepath.Join(k.dir, "fifo"), 0o600))
	p.says("ready", 1)
	calls := len(k.ssm.Calls())
	hang(k)
	p.eventually("a refresh", func() bool { return len(k.calls(calls)) > 0 })
	k.must(os.WriteFile(filepath.Join(k.dir, "fifo"), []byte("x\n"), 0o600))
	p.wait()
	p.want(7)
}

func TestRestart_SIGTERMEndsIt(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			p := k.exec([]string{"--on-change=restart", "--stop-timeout=2s"}, sh(endsWhenAllowed))
			p.says("ready", 1)
			p.rotate(nextKey, nextFingerprint)
			p.eventually("it restarts", func() bool { return p.count("command restarts") > 0 })
			p.signal(sig)
			time.Sleep(2200 * time.Millisecond)
			k.allow()
			p.wait()
			p.want(6) // and it was not killed for taking longer than --stop-timeout, which is for restarts
			if p.count("command started") != 1 {
				t.Errorf("the log is\n%s", &p.stderr)
			}
		})
	}
}

// To a program in Java SIGQUIT is a question.
func TestRestart_SIGQUITEndsNoLaterRestart(t *testing.T) {
	t.Parallel()
	p := newTask(t).exec([]string{"--on-change=restart"}, sh("trap 'echo threads' QUIT; echo ready; while :; do sleep 0.02; done"))
	p.says("ready", 1)
	p.pid()
	p.signal(syscall.SIGQUIT)
	p.says("threads", 1)
	p.rotate(nextKey, nextFingerprint)
	p.says("ready", 2)
}

func TestRestart_CMDThatCannotBeStartedAgain(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	path := filepath.Join(t.TempDir(), "program")
	k.must(os.WriteFile(path, []byte("#!/bin/sh\necho ready; exec sleep 1000\n"), 0o755))
	p := k.exec([]string{"--on-change=restart"}, []string{path})
	p.says("ready", 1)
	p.pid()
	k.must(os.Remove(path))
	p.ssm.Put(keyParameter, content(t, nextKey))
	p.wait()
	p.want(127)
	if last := p.lastLine(); !strings.HasPrefix(last, "sidecar: CMD: "+path+": no such file") {
		t.Errorf("the last line is %q", last)
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
			sidecar := p.cmd.Process.Pid
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
