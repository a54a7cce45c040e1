package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/shared/keyfile"
)

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
