package harden

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func TestProtection_EndsInAdviceWhereItDoesNotHold(t *testing.T) {
	for name, p := range map[string]Protection{"other processes": OtherProcesses(), "memory": Memory()} {
		if p.Says == "" || p.Holds != (p.Advice == "") {
			t.Errorf("%s: %+v", name, p)
		}
		if want := p.Says + "; " + p.Advice; !p.Holds && p.String() != want {
			t.Errorf("%s: %q, want %q", name, p, want)
		}
	}
}

func TestMemory_SaysWhichBuildRuns(t *testing.T) {
	if Memory().Holds != secret.Erases {
		t.Errorf("erases: %v, and it says %q", secret.Erases, Memory())
	}
	if secret.CanErase && !secret.Erases && !strings.Contains(Memory().Advice, "GOEXPERIMENT=runtimesecret") {
		t.Errorf("no advice on how to build: %q", Memory())
	}
}

func TestAttributes_SayWhatRunsAndWhatToDo(t *testing.T) {
	text := fmt.Sprint(Attributes()...)
	for _, p := range []Protection{OtherProcesses(), Memory()} {
		if !strings.Contains(text, p.Says) || !strings.Contains(text, p.Advice) {
			t.Errorf("no %q in %s", p, text)
		}
	}
}

func TestForget_OverwritesAndUnsetsSecretsAlone(t *testing.T) {
	t.Setenv("TEST_SECRET", "hunter2")
	t.Setenv("TEST_SETTING", "kept")
	environ := []string{strings.Clone("TEST_SECRET=hunter2"), strings.Clone("TEST_SETTING=kept")}
	Forget(environ, func(name string) bool { return name == "TEST_SECRET" })
	if environ[0] != "TEST_SECRET=\x00\x00\x00\x00\x00\x00\x00" || environ[1] != "TEST_SETTING=kept" {
		t.Errorf("%q", environ)
	}
	if _, set := os.LookupEnv("TEST_SECRET"); set {
		t.Error("it is still set")
	}
	if os.Getenv("TEST_SETTING") != "kept" {
		t.Error("another variable has gone")
	}
}
