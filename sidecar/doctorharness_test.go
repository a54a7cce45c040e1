package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

// examined is a task in which everything is right, its key on disk.
func examined(t *testing.T) (*task, *localsnowflake.Server) {
	testenv.Heavy(t)
	t.Helper()
	k, account := verified(t)
	k.env["AWS_ENDPOINT_URL_STS"] = k.env["AWS_ENDPOINT_URL_SSM"]
	k.dir = tmpfs(t)
	k.unprivileged()
	k.program = forOthers
	k.must(os.Chmod(k.dir, 0o750))
	k.do("once").want(exitDone)
	return k, account
}

// varies are parts of the output that differ from run to run.
var varies = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b[1-9]?\d+s ago`), "SECONDS ago"},
	{regexp.MustCompile(`[\d.]+ [KMGT]iB`), "N KiB"},
	{regexp.MustCompile(`Request ID: [0-9a-f-]+`), "Request ID: ID"},
	{regexp.MustCompile(`key/[0-9a-f-]{36}`), "key/ID"},
	{regexp.MustCompile(`\[[0-9a-f-]{36}\]`), "[ID]"},
	{regexp.MustCompile(`\.invalid:\d+`), ".invalid:PORT"},
	{regexp.MustCompile(`_ROTATED_\d+`), "_ROTATED_AT"},
}

// checklist has the lines that doctor prints, without what varies.
func (p *process) checklist() []string {
	text := oneLineEach(p.stdout.String())
	for _, v := range varies {
		text = v.is.ReplaceAllString(text, v.as)
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// fill puts the task's values, and what this build does with memory, into an expected text.
func (k *task) fill(text string) string {
	uid, gid := os.Getuid(), os.Getgid()
	if k.user != nil {
		uid, gid = int(k.user.Uid), int(k.user.Gid)
	}
	memory := "ok    memory: " + harden.Memory().String()
	if !harden.Memory().Holds {
		memory = "warn" + strings.TrimPrefix(memory, "ok  ")
	}
	return strings.NewReplacer(
		"MEMORY", memory, "DIR", k.dir, "UID", fmt.Sprint(uid), "GID", fmt.Sprint(gid), "OLD", fingerprint(k.t, oldFingerprint), "NEXT", fingerprint(k.t, nextFingerprint),
	).Replace(text)
}

const allIsWell = `ok    other processes: kept out from the start
MEMORY
ok    aws region: us-east-1, from AWS_REGION
ok    aws credentials: arn:aws:sts::123456789012:assumed-role/app-task/session (account 123456789012), from AWS_ACCESS_KEY_ID
ok    ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, answers
ok    aws clock: this machine agrees with AWS
ok    key parameter: /app/key, SecureString, version 1 of TIME
ok    key decryption: allowed
ok    passphrase parameter: /app/pass, SecureString, version 1 of TIME
ok    passphrase decryption: allowed
ok    passphrase: opens the key
ok    key: RSA 2048, OLD (aes-256-cbc, PBKDF2 with hmacWithSHA256, 2048 iterations)
ok    directory: DIR, UID:GID 0750
ok    filesystem: tmpfs, in memory
ok    writing: uid UID can write there
ok    space: N KiB are free
ok    readers: uid UID, and every process with gid GID (UID:GID 0440)
ok    published key: OLD, the newest
skip  connections (--connections is not set)
ok    last refresh: SECONDS ago, of arn:aws:ssm:us-east-1:123456789012:parameter/app/key
ok    other sidecars: none runs here
ok    snowflake host: http://HOST, answers
ok    snowflake clock: this machine agrees with Snowflake
ok    snowflake login: user svc, with OLD
ok    public key: RSA_PUBLIC_KEY
ok    key age: set 0 days ago
ok    other slots: RSA_PUBLIC_KEY_2, free
ok    role: PUBLIC, the user's default`

// differs checks that the checklist is allIsWell but for these lines, and the exit code that goes with it.
func (p *process) differs(lines string) {
	p.t.Helper()
	want := strings.Split(p.fill(allIsWell), "\n")
	failures := 0
	for line := range strings.Lines(p.fill(lines)) {
		line = strings.TrimSuffix(line, "\n")
		i := slices.IndexFunc(want, func(w string) bool { return checkOf(w) == checkOf(line) })
		if i < 0 {
			p.t.Fatalf("there is no check for %q", line)
		}
		want[i] = line
		if strings.HasPrefix(line, "fail") {
			failures++
		}
	}
	got := p.checklist()
	for i := range max(len(got), len(want)) {
		if g, w := at(got, i), at(want, i); g != w {
			p.t.Errorf("it says\n%s\nwant\n%s", g, w)
		}
	}
	if failures == 0 {
		p.want(exitDone)
		return
	}
	p.want(exitFailed, fmt.Sprintf("sidecar: %d of %d checks failed", failures, len(want)))
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

var checkName = regexp.MustCompile(`^\w+ +([a-z ]+?)(:| \()`)

func checkOf(line string) string { return checkName.FindStringSubmatch(line)[1] }
