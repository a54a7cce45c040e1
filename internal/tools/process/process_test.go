//go:build unix

package process_test

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/process"
)

func TestProcess_StopSendsSIGTERM(t *testing.T) {
	for script, says := range map[string]string{
		"trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done":           "",
		"trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done": "the last lines of it:\n  ready\n  bye: exit status 3",
	} {
		ready := make(chan string, 2)
		p, err := process.Start("it", exec.Command("/bin/sh", "-c", script), func(line string) { ready <- line })
		if err != nil {
			t.Fatal(err)
		}
		if line := <-ready; line != "ready" {
			t.Errorf("the first line is %q", line)
		}
		if p.Ended() {
			t.Error("it has ended by itself")
		}
		if err := p.Stop(); (err == nil) != (says == "") || err != nil && err.Error() != says {
			t.Errorf("got %v, want %q", err, says)
		}
		if !p.Ended() {
			t.Error("it goes on")
		}
	}
}

func TestProcess_HasNoEnvironmentButItsOwn(t *testing.T) {
	t.Setenv("OF_THE_TEST", "yes")
	cmd := exec.Command("/bin/sh", "-c", `echo "[$OF_THE_TEST][$OWN]"`)
	for want, environ := range map[string][]string{"[][]\n": nil, "[][its own]\n": {"OWN=its own"}} {
		p, err := process.Start("it", &exec.Cmd{Path: cmd.Path, Args: cmd.Args, Env: environ}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Err(); err != nil || p.String() != want {
			t.Errorf("printed %q, %v, want %q", p, err, want)
		}
	}
}

func TestProcess_KillEndsIt(t *testing.T) {
	p, err := process.Start("it", exec.Command("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if status := p.State().Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL || p.Err() == nil {
		t.Errorf("it ended with %v, %v", p.State(), p.Err())
	}
}

func TestGroup_StopsTheLastOneFirst(t *testing.T) {
	file := t.TempDir() + "/order"
	var group process.Group
	for _, name := range []string{"first", "last"} {
		started := make(chan string, 1)
		cmd := exec.Command("/bin/sh", "-c", "trap 'echo "+name+" >>"+file+"; exit 0' TERM; echo "+name+"; while :; do sleep 0.02; done")
		p, err := process.Start(name, cmd, func(line string) { started <- line })
		if err != nil {
			t.Fatal(err)
		}
		<-started
		group = append(group, p)
	}
	if words := group.LastWords().Error(); !strings.Contains(words, "last lines of first:\n  first") || !strings.Contains(words, "last lines of last:\n  last") {
		t.Errorf("the last words are %q", words)
	}
	if err := group.Stop(); err != nil || len(group) > 0 {
		t.Errorf("%d are left, %v", len(group), err)
	}
	if order, err := exec.Command("cat", file).Output(); err != nil || string(order) != "last\nfirst\n" {
		t.Errorf("they ended as %q, %v", order, err)
	}
}

func TestOutput_CountsLinesSinceAMark(t *testing.T) {
	var o process.Output
	if o.Lines(0) != nil {
		t.Error("nothing was printed, and there are lines")
	}
	_, _ = o.Write([]byte("level=INFO a\nlevel="))
	mark := o.Mark()
	_, _ = o.Write([]byte("WARN b\nlevel=WARN a\nno end"))
	if lines := o.Lines(0); !slices.Equal(lines, []string{"level=INFO a", "level=WARN b", "level=WARN a", "no end"}) {
		t.Errorf("lines %q", lines)
	}
	if n := o.Count(0, "level=", "a"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
	if !o.Said(mark, "WARN", "a") || o.Said(mark, "INFO") {
		t.Errorf("since the mark it has %q", o.Lines(mark))
	}
}
