package main

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	runner "github.com/snowkey/snowkey/internal/tools/process"
)

// onTerminal starts a command whose stdout and stderr are a terminal. What it shows is in shown.
func (k *task) onTerminal(args ...string) (p *process, shown *runner.Output) {
	k.t.Helper()
	terminal, tty := openTerminal(k.t)
	shown = new(runner.Output)
	go func() { _, _ = io.Copy(shown, terminal) }() // ends when the test closes the terminal
	k.stdout, k.stderr = tty, tty
	p = k.start(args...)
	k.stdout, k.stderr = nil, nil
	return p, shown
}

// shows waits until the terminal has shown a text, which may be after the process has ended.
func (p *process) shows(shown *runner.Output, text string) {
	p.t.Helper()
	for deadline := time.Now().Add(soon); !strings.Contains(shown.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: no %q on the terminal:\n%s", p, text, shown)
		}
	}
}

func TestTerminal_LogIsText(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"run":  {"run", onDemand},
		"exec": {"exec", onDemand, "--", "sleep", "60"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			p, shown := k.onTerminal(args...)
			p.shows(shown, ` INFO  key published fingerprint="`+fingerprint(t, oldFingerprint)+`" `)
			p.end(syscall.SIGTERM)
			if text := shown.String(); strings.Contains(text, `"msg"`) || marked().in(text) != "" {
				t.Errorf("the terminal shows\n%s", text)
			}
		})
	}
}

func TestTerminal_LogIsJSONIfSet(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string][2]string{
		"its format":  {"SNOWKEY_LOG_FORMAT", "json"},
		"its metrics": {"SNOWKEY_EMF", "app"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.env[setting[0]] = setting[1]
			p, shown := k.onTerminal("run", onDemand)
			p.shows(shown, `"msg":"key published"`)
			p.end(syscall.SIGTERM)
		})
	}
}

func TestLog_IsTextIfSet(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.start("run", onDemand, "--log-format", "text")
	p.eventually("a line", func() bool { return strings.Contains(p.stderr.String(), ` INFO  key published fingerprint="`) })
	p.end(syscall.SIGTERM)
}

func TestTerminal_DoctorIsInColourUnlessNoColor(t *testing.T) {
	t.Parallel()
	const red = "\x1b[31mfail\x1b[0m  "
	k, account := examined(t)
	account.UnsetPublicKey("svc", 1)
	p, shown := k.onTerminal("doctor")
	p.wait()
	p.shows(shown, red+"snowflake login: ")
	k.env["NO_COLOR"] = "1"
	p, shown = k.onTerminal("doctor")
	p.wait()
	p.shows(shown, "fail  snowflake login: ")
	if strings.Contains(shown.String(), "\x1b") {
		t.Errorf("there is colour in\n%s", shown)
	}
}

func TestTerminal_RotateShowsAnErrorOnce(t *testing.T) {
	t.Parallel()
	k, _ := rotating(t)
	k.ssm.DenyDecrypt(keyParameter)
	p, shown := k.onTerminal("rotate")
	p.wait()
	p.shows(shown, "sidecar: ")
	p.shows(shown, `"result":"refused"`)
	if n := strings.Count(shown.String(), "allow kms:Decrypt"); n != 1 {
		t.Errorf("%d times:\n%s", n, shown)
	}
	if refused := k.rotate(); summary(t, refused).Error == "" {
		t.Errorf("without a terminal the summary lacks the error: %s", &refused.stdout)
	}
}

func TestTerminal_HealthcheckShowsTheKey(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.do("once").want(exitDone)
	p, shown := k.onTerminal("healthcheck")
	p.wait()
	p.want(exitDone)
	p.shows(shown, fingerprint(t, oldFingerprint)+" is published, checked at ")
	quiet := k.do("healthcheck")
	quiet.want(exitDone)
	if said := quiet.stdout.String(); said != "" {
		t.Errorf("without a terminal it prints %q", said)
	}
}
