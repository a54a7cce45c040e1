package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
