package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

const otherParameter = "/other/key"

// Two sidecars with different keys in one directory would replace each other's for ever.
func TestASecondSidecarWithAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ssm.Put(otherParameter, content(t, nextKey))
	first := k.run()
	before := k.snapshot()
	says := []string{"another sidecar publishes /app/key in " + k.dir, "a volume of its own", "--dir"}

	second := k.start("run", "--interval=1h", "--key-parameter="+otherParameter)
	second.fails(badInput{name: "refused", class: keyfile.ClassFilesystem, says: says}, 0)
	second.signal(syscall.SIGHUP)
	second.fails(badInput{name: "refused again", class: keyfile.ClassFilesystem, says: says}, 1)
	k.do("once", "--key-parameter="+otherParameter).want(exitFailed, says...)
	k.untouched(before)
	if first.connect() != nil {
		t.Error("the first one's socket is gone")
	}

	first.end(syscall.SIGKILL) // the claim ends with the process, however it ends
	second.signal(syscall.SIGHUP)
	second.follows(fingerprint(t, nextFingerprint))
}

// Tasks that follow each other on one host share a volume for a while.
func TestTwoSidecarsWithTheSameKeyShareADirectory(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	first := k.run()
	before := k.snapshot()
	second := k.run()
	k.do("once").want(exitDone, "unchanged")
	k.untouched(before)
	k.ssm.Put(keyParameter, content(t, nextKey))
	for _, p := range []*process{second, first} {
		p.signal(syscall.SIGHUP)
		p.follows(fingerprint(t, nextFingerprint))
		if n := p.count("look failed"); n > 0 {
			t.Errorf("%d looks failed:\n%s", n, &p.stderr)
		}
	}
}

// The second one comes while the first still waits for SSM's first answer.
func TestTwoSidecarsWithTheSameKeyMayStartTogether(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"run": {"run", "--interval=1h"}, "once": {"once"}, "exec": {"exec", "--", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.must(k.statusOf(otherParameter)) // of a predecessor, and no longer true
			first := hanging(k)
			calls := len(k.calls(0))
			second := k.start(command...)
			second.eventually("a call of its own", func() bool { return len(k.calls(calls)) > 0 })
			if s := k.status(); s.Source != keyParameter || !s.CheckedAt.IsZero() || s.LastError != nil {
				t.Errorf("the status is %+v", s)
			}
			k.do("once", "--key-parameter="+otherParameter).want(exitFailed, "another sidecar publishes /app/key in "+k.dir)

			first.end(syscall.SIGKILL) // the second one has the claim, too
			k.do("once", "--key-parameter="+otherParameter).want(exitFailed, "another sidecar publishes /app/key in "+k.dir)
			second.end(syscall.SIGTERM)
			if said := second.stderr.String(); strings.Contains(said, "another sidecar") {
				t.Errorf("it said:\n%s", said)
			}
		})
	}
}

// statusOf leaves a status with this source.
func (k *task) statusOf(source string) error {
	return publish.Dir{Path: k.dir}.Status(keyfile.Status{Schema: keyfile.StatusSchema, Source: source, CheckedAt: time.Now()})
}
