package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

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
