package main

import (
	"strings"
	"syscall"
	"testing"
)

// The key and the passphrase as other programs write them. How the passphrase was read is said, and nothing of it.
func TestWrittenForms_AreReadEverywhere(t *testing.T) {
	t.Parallel()
	const remark = "the passphrase opens the key only without the line break after it, without the quotation marks around it"
	k := newTask(t)
	k.ssm.Put(keyParameter, b64(content(t, oldKey)))
	k.ssm.Put(passParameter, `"`+passphrase+"\"\n")
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint), "sidecar: warning: "+remark, "store it like that")
	run := k.run()
	run.refresh()
	run.refresh()
	if n := run.count(remark); n != 1 {
		t.Errorf("%d lines of the log have %q, want one for each stored passphrase", n, remark)
	}
	run.end(syscall.SIGTERM)

	k = fromEnvironment(t)
	k.env["SECRET_KEY"] = strings.ReplaceAll(content(t, oldKey), "\n", `\\n`)
	k.env["PRIVATE_KEY_PASSPHRASE"] = b64(passphrase + "\n")
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint), "only decoded from base64, without the line break after it")
}

func TestWrittenForms_ExactPassphraseHasNoRemark(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	p := k.do("once")
	p.want(exitDone)
	if strings.Contains(p.outputs()["stderr"], "passphrase") {
		t.Errorf("stderr: %s", p.outputs()["stderr"])
	}
}
