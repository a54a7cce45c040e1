package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

// proc is a file of /proc about the process.
func (p *process) proc(name string) string {
	p.t.Helper()
	return content(p.t, fmt.Sprintf("/proc/%d/%s", p.PID(), name))
}

// lineOf is the line that begins so, with single spaces.
func lineOf(text, begin string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// Each command that has a key is inspected while it waits for SSM or CMD.
func TestHarden_EachCommandClosesItsProcess(t *testing.T) {
	t.Parallel()
	put := []string{"keygen", "--put", "--generate-passphrase"}
	for name, args := range map[string][]string{
		"run": {"run"}, "once": {"once"}, "keygen": put, "exec": {"exec", "--", "sleep", "60"},
		"rotate": {"rotate"}, "doctor": {"doctor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.env["SNOWFLAKE_ACCOUNT"], k.env["SNOWFLAKE_USER"], k.env["SNOWFLAKE_HOST"] = "local", "svc", "127.0.0.1"
			k.unprivileged()
			hang(k)
			p := k.start(args...)
			p.eventually("a call", func() bool { return len(k.calls(0)) > 0 })
			if k.user != nil {
				// The files belong to root: no process of the same user may open them.
				info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", p.PID()))
				k.must(err)
				if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
					t.Errorf("/proc/PID/mem belongs to uid %d", owner)
				}
				cat := exec.Command("cat", fmt.Sprintf("/proc/%d/environ", p.PID()))
				cat.SysProcAttr = &syscall.SysProcAttr{Credential: k.user}
				if out, err := cat.CombinedOutput(); err == nil {
					t.Errorf("another process of the same user reads its environment:\n%s", out)
				}
			}
			if limit := lineOf(p.proc("limits"), "Max core file size"); name != "exec" && limit != "Max core file size 0 0 bytes" {
				t.Errorf("limits: %s", limit)
			}
			p.end(syscall.SIGKILL)
		})
	}
}

// Whether CMD writes core files is for its own limits to say.
func TestHarden_CMDKeepsItsLimits(t *testing.T) {
	t.Parallel()
	want, err := exec.Command("sh", "-c", "ulimit -c; ulimit -l").Output()
	if err != nil {
		t.Fatal(err)
	}
	p := newTask(t).exec(nil, sh("ulimit -c; ulimit -l"))
	p.wait()
	if got := p.stdout.String(); got != string(want) {
		t.Errorf("CMD has the limits\n%s, the sidecar was given\n%s", got, want)
	}
}

func TestHarden_SecretsLeaveTheEnvironment(t *testing.T) {
	t.Parallel()
	k := fromEnvironment(t)
	k.env["APP_SETTING"] = "its own"
	for _, p := range []*process{k.run(), k.exec(nil, sh("sleep 60"))} {
		p.eventually("the secrets are overwritten", func() bool { return strings.Contains(p.proc("environ"), "SECRET_KEY=\x00") })
		block := p.proc("environ")
		if found := marked().in(strings.ReplaceAll(block, awsSecret, "")); found != "" {
			t.Errorf("%s: %s is in /proc/PID/environ", p, found)
		}
		for _, entry := range []string{"SECRET_KEY=\x00", "PRIVATE_KEY_PASSPHRASE=\x00", "APP_SETTING=its own\x00", "SNOWKEY_DIR=" + k.dir + "\x00"} {
			if !strings.Contains(block, entry) {
				t.Errorf("%s: no %q in /proc/PID/environ", p, entry)
			}
		}
		p.end(syscall.SIGKILL)
	}
}

// Without a limit on locked memory nothing of the process goes to swap.
func TestHarden_LocksMemoryWhereAllowed(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("/bin/sh", "-c", "ulimit -l unlimited").CombinedOutput(); err != nil {
		t.Skipf("the limit cannot be raised here: %s", out)
	}
	k := newTask(t)
	program := k.program
	k.program = "/bin/sh"
	p := k.start("-c", `ulimit -l unlimited && exec "$0" run `+onDemand, program)
	p.follows(fingerprint(t, oldFingerprint))
	if locked := lineOf(p.proc("status"), "VmLck:"); locked == "VmLck: 0 kB" {
		t.Error("nothing is locked")
	}
	k.ssm.Put(keyParameter, content(t, nextKey))
	p.signal(syscall.SIGHUP)
	p.follows(fingerprint(t, nextFingerprint)) // and it can still allocate

	p.end(syscall.SIGTERM)
	k.must(os.RemoveAll(k.dir))
	k.must(os.Mkdir(k.dir, 0o755))
	p = k.start("-c", `ulimit -l 64 && exec "$0" run `+onDemand, program)
	p.follows(fingerprint(t, nextFingerprint))
	if locked := lineOf(p.proc("status"), "VmLck:"); locked != "VmLck: 0 kB" {
		t.Errorf("with a limit, %s", locked)
	}
}

// A crash prints the stack of every goroutine with its arguments, and writes no core file. A function of crypto/rsa
// has one word of a number as an argument, and a crash in the middle of it can show that word. To find a prime takes
// half of its words.
func TestHarden_CrashShowsTwoWordsAtMost(t *testing.T) {
	t.Parallel()
	key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
	if err != nil {
		t.Fatal(err)
	}
	var words []string // as a traceback prints arguments
	for _, secret := range [][]byte{key.RSA().D.Bytes(), key.RSA().Primes[0].Bytes(), key.RSA().Primes[1].Bytes(), []byte(passphrase), keyfile.DER.Encode(key)[24:]} {
		for ; len(secret) >= 8; secret = secret[8:] {
			for _, n := range []uint64{binary.BigEndian.Uint64(secret), binary.LittleEndian.Uint64(secret)} {
				words = append(words, fmt.Sprintf("%#x", n))
			}
		}
	}
	for delay := range 8 {
		k := newTask(t)
		k.env["GOTRACEBACK"] = "crash"
		p := k.start("run")
		p.eventually("a call", func() bool { return len(k.calls(0)) > 0 })
		time.Sleep(time.Duration(delay) * 3 * time.Millisecond)
		p.signal(syscall.SIGQUIT)
		p.wait()
		status := p.State().Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.CoreDump() {
			t.Errorf("it did not end by a signal, or wrote a core file: %v", p.State())
		}
		said := p.stderr.String()
		if !strings.Contains(said, "goroutine ") {
			t.Errorf("no traceback in:\n%s", said)
		}
		var shown []string
		for _, w := range words {
			if strings.Contains(said, w) && !slices.Contains(shown, w) {
				shown = append(shown, w)
			}
		}
		if len(shown) > 2 {
			t.Errorf("%d words of secrets are in the traceback:\n%s", len(shown), said)
		}
	}
	if _, err := os.Stat("core"); err == nil || !os.IsNotExist(err) {
		t.Errorf("a core file: %v", err)
	}
}

// A program that its user may read lets other processes in for a moment. One that was given away as the image's is
// does not, and each says so in the first line of its log.
func TestHarden_FirstLineSaysWhatRuns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ program, says string }{
		{forOthers, `"other_processes":"kept out from the start"`},
		{readable, `"other_processes":"not kept out while the sidecar starts`},
	} {
		k := newTask(t)
		k.unprivileged()
		k.program = tc.program
		p := k.run()
		first, _, _ := strings.Cut(p.stderr.String(), "\n")
		for _, want := range []string{`"msg":"started"`, tc.says, `"memory":"` + harden.Memory().Says + `"`, harden.Memory().Advice} {
			if !strings.Contains(first, want) {
				t.Errorf("%s: no %s in %s", tc.program, want, first)
			}
		}
		if advised := strings.Contains(first, "owned by root with mode 0111"); advised != (tc.program == readable) {
			t.Errorf("%s: advice on how to install it: %v, in %s", tc.program, advised, first)
		}
		p.end(syscall.SIGTERM)
	}
}
