package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"
)

// writings are ways to write a text, as other programs do.
var writings = map[string]func(string) string{
	"as it is":            func(text string) string { return text },
	"in quotation marks":  func(text string) string { return `"` + text + "\"\r\n" },
	"as JSON":             func(text string) string { written, _ := json.Marshal(text); return string(written) },
	"breaks written out":  func(text string) string { return strings.ReplaceAll(text+"\n", "\n", `\\n`) },
	"in base64":           b64,
	"in base64url, bare":  func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) },
	"in base64, twice":    func(text string) string { return b64(b64(text)) },
	"in UTF-16":           inUTF16,
	"in base64 of UTF-16": func(text string) string { return b64(inUTF16(text)) },
	"in a URL":            url.PathEscape,
	"in hexadecimal":      func(text string) string { return hex.EncodeToString([]byte(text)) },
	"with a name before":  func(text string) string { return "export SECRET='" + text + "'\n" },
	"as a field of JSON": func(text string) string {
		written, _ := json.Marshal(map[string]string{"value": text})
		return string(written)
	},
	"with a mark, as text": func(text string) string { return "\ufeff" + text },
}

func inUTF16(text string) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return string(out)
}

// What is refused is in no output, in whatever form it was written. The search at the end of each process fails the test.
func TestWrittenForms_RefusalsHaveNothingOfTheValue(t *testing.T) {
	t.Parallel()
	encrypted := content(t, oldKey)
	for written, write := range writings {
		t.Run(written, func(t *testing.T) {
			t.Parallel()
			for what, spoil := range map[string]func(*task){
				"a wrong passphrase":        put(passParameter, write(wrongPassphrase)),
				"a key for the passphrase":  put(passParameter, write(encrypted)),
				"a passphrase for the key":  put(keyParameter, write(notAKey)),
				"a key that was cut":        put(keyParameter, write(encrypted[:len(encrypted)/2])),
				"a key that lost a letter":  put(keyParameter, write(withStar(encrypted))),
				"a key within another text": put(keyParameter, write("# "+wrongPassphrase+"\n"+withStar(encrypted))),
				"a managed secret":          put(keyParameter, fmt.Sprintf(`{"privateKey": %q, "passphrase": %q}`, write(encrypted[:len(encrypted)/2]), write(wrongPassphrase))),
				"the environment": func(k *task) {
					k.withoutAWS()
					k.env["SNOWKEY_SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = strings.ReplaceAll(write(encrypted), "\x00", ""), strings.ReplaceAll(write(wrongPassphrase), "\x00", "")
				},
			} {
				k := newTask(t)
				spoil(k)
				for _, command := range []string{"once", "doctor"} {
					if p := k.do(command); p.State().ExitCode() == exitDone {
						t.Errorf("%s: %s accepts it", what, command)
					}
				}
			}
		})
	}
}

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
