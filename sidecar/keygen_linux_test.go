package main

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	runner "github.com/snowkey/snowkey/internal/tools/process"
)

// A dialogue is keygen on a terminal, and what the terminal shows.
type dialogue struct {
	*process
	terminal *os.File // what the person at it writes to
	tty      *os.File // what keygen has
	shown    runner.Output
}

func (k *task) dialogue(args ...string) *dialogue {
	k.t.Helper()
	terminal, tty := openTerminal(k.t)
	k.stdin = tty
	k.attr.Setsid, k.attr.Setctty = true, true
	d := &dialogue{terminal: terminal, tty: tty}
	go func() { _, _ = io.Copy(&d.shown, terminal) }() // ends when the test closes the terminal
	d.process = k.start(append([]string{"keygen", "--out", k.path("rsa_key.p8")}, args...)...)
	return d
}

// answer waits until the prompt has come n times in all.
func (d *dialogue) answer(prompt string, n int, text string) {
	d.t.Helper()
	d.eventually("the prompt "+prompt, func() bool { return strings.Count(d.shown.String(), prompt) == n })
	_, err := d.terminal.WriteString(text)
	d.must(err)
}

func (d *dialogue) echoes() bool {
	d.t.Helper()
	state, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
	d.must(err)
	return state.Lflag&unix.ECHO != 0
}

const (
	asks      = "passphrase for the key: "
	asksAgain = "the same again: "

	passphraseTries = 3
)

func TestKeygen_AsksTwiceAndShowsNothing(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	d := k.dialogue()
	d.answer(asks, 1, "short\r")
	d.answer(asks, 2, passphrase+"\r")
	d.answer(asksAgain, 1, nextPassphrase+"\r")
	d.answer(asks, 3, passphrase+"\r")
	d.answer(asksAgain, 2, passphrase+"\r")
	d.wait()
	d.want(exitDone)
	d.assigns("APP_USER", opened(t, content(t, k.path("rsa_key.p8")), passphrase))
	if found := marked().in(d.shown.String()); found != "" {
		d.t.Errorf("there is %s on the terminal", found)
	}
	for _, words := range []string{"shorter than 8", "the two differ"} {
		if !strings.Contains(d.shown.String(), words) {
			t.Errorf("the terminal does not show %q", words)
		}
	}
}

func TestKeygen_GivesUpAsking(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	d := k.dialogue()
	for n := range passphraseTries {
		d.answer(asks, n+1, "short\r")
	}
	d.wait()
	d.want(exitFailed, "no passphrase")
	k.wantFiles()
}

// However the dialogue ends, the terminal echoes again.
func TestKeygen_StopsAtThePromptAndRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*dialogue){
		"Ctrl-C": func(d *dialogue) { d.answer(asks, 1, "\x03") },
		"Ctrl-D": func(d *dialogue) { d.answer(asks, 1, "\x04") },
		"SIGTERM": func(d *dialogue) {
			d.answer(asks, 1, "half a pass")
			if d.echoes() {
				d.t.Error("the terminal echoes at the prompt")
			}
			d.signal(syscall.SIGTERM)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeygen(t)
			d := k.dialogue()
			stop(d)
			d.wait()
			d.want(exitFailed, "nothing was made")
			k.wantFiles()
			if !d.echoes() {
				t.Error("the terminal does not echo any more")
			}
		})
	}
}

func TestKeygen_SignalEndsTheWaitForAPipe(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	pipe := k.path("pipe")
	k.must(syscall.Mkfifo(pipe, 0o600))
	p := k.start("keygen", "--out", k.path("rsa_key.p8"), "--passphrase-file", pipe)
	p.eventually("it reads", func() bool {
		writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails without a reader
		if err != nil {
			return false
		}
		t.Cleanup(func() { writer.Close() })
		return true
	})
	p.signal(syscall.SIGINT)
	p.wait()
	p.want(exitFailed, "stopped", "nothing was made")
	k.must(os.Remove(pipe))
	k.wantFiles()
}
