package checks

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// A reader who pastes the page's blocks one after the other gets to its end, and sees what the page says, even with a
// profile of AWS that does not exist.
func TestTryIt_CommandsRunAsWritten(t *testing.T) {
	script := strings.Join(blocks(t, "../../../docs/try-it.md", "bash"), "\n")
	script = replace(t, script, "GOEXPERIMENT=runtimesecret ", "") // which builds the standard library once more
	printed := run(t, "../../..", onFreePorts(t, script, "4566", "8085", "9090"), "AWS_PROFILE=none-of-this-name", "AWS_SESSION_TOKEN=none")
	for _, promised := range []string{
		"rsa_key.pem", "rsa_key.der", "Private-Key: (2048 bit", `"fingerprint": "SHA256:`, `"msg":"started"`, "snowkey_refreshes_total",
		"msg=answered", "other processes: ", "changed nothing", `"result":"finished"`, "mine.p8", "mine.pub", "ALTER USER APP_USER SET",
		"exit code 3", "rsa_key.pem.sock",
	} {
		if !strings.Contains(printed, promised) {
			t.Errorf("%q was not printed", promised)
		}
	}
	if strings.Contains(printed, "No such process") {
		t.Error("a program of the page ended before it was ready")
	}
	if t.Failed() {
		t.Log(printed)
	}
}

// blocks returns the code blocks of a page that are in a language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	var found []string
	for _, m := range codeBlock.FindAllStringSubmatch(testenv.Read(t, page), -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no block of %s", page, language)
	}
	return found
}

var codeBlock = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// onFreePorts replaces the ports of a page, at any of which something may listen on this machine.
func onFreePorts(t *testing.T, script string, ports ...string) string {
	t.Helper()
	for _, port := range ports {
		if !strings.Contains(script, port) {
			t.Fatalf("the page no longer names port %s", port)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // when all are known, so that they differ
		_, free, _ := net.SplitHostPort(listener.Addr().String())
		script = strings.ReplaceAll(script, port, free)
	}
	return script
}

// run runs a script with bash, which ends at the first command that fails, and every process that it left.
func run(t *testing.T, dir, script string, variables ...string) string {
	t.Helper()
	testenv.Slow(t)
	for _, tool := range []string{"bash", "openssl", "curl"} {
		if _, err := exec.LookPath(tool); err != nil || runtime.GOOS != "linux" {
			t.Skipf("it needs Linux and %s", tool)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute) // of which building takes the most
	defer cancel()
	path := filepath.Join(t.TempDir(), "script")
	const prologue = "set -euo pipefail\ntrap 'left=$(jobs -p); [ -z \"$left\" ] || kill $left 2>/dev/null || true' EXIT\n"
	if err := os.WriteFile(path, []byte(prologue+script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "bash", path)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"TMPDIR=" + t.TempDir()}, variables...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// What the page has the reader type works, with the real sidecar, and programs that do nothing in place of aws and docker.
func TestFirstTask_CommandsRunAsWritten(t *testing.T) {
	ssm, snowflake := localssm.New(), localsnowflake.New(localsnowflake.WithAccount("MYORG-MYACCOUNT"))
	ssm.CreateKMSKey("alias/app")
	snowflake.CreateUser("APP_USER")
	snowflake.SetCanAlterUsers("APP_USER", false)
	aws, account, administrator := serve(t, ssm), serve(t, snowflake), serve(t, administrator{t, snowflake})

	page := "\n" + strings.Join(typed(blocks(t, firstTaskPage, "console")), "\n") + "\n"
	page = replace(t, page, "\nmake build\nexport PATH=\"$PWD/bin:$PATH\"\n", firstTask)
	page = replace(t, page, "AWS_REGION=eu-central-1", "AWS_REGION=us-east-1") // localssm's
	page = replace(t, page, ` --kms-key "$kms_key"`, ` --kms-key "$kms_key" | curl -fsS --data-binary @- `+administrator.String())
	printed := varying.ReplaceAllString(run(t, "../../..", page, "SNOWKEY_GRACE=1s", "AWS_ENDPOINT_URL="+aws.String(), "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"SNOWFLAKE_HOST="+account.Hostname(), "SNOWFLAKE_PORT="+account.Port(), "SNOWFLAKE_PROTOCOL=http"), "")

	_, shown, _ := strings.Cut(testenv.Read(t, firstTaskPage), "sidecar rotate\n")
	shown, _, _ = strings.Cut(shown, "```")
	for line := range strings.Lines(varying.ReplaceAllString(shown, "")) {
		if !strings.Contains(printed, line) {
			t.Errorf("the page shows what rotate does not print: %s", line)
		}
	}
	if slots := snowflake.Fingerprints("APP_USER"); slots[0] != "" || slots[1] == "" {
		t.Errorf("the user's slots have %q, want the new key in the second one alone", slots)
	}
}

const firstTaskPage = "../../../docs/first-task.md"

// varying is what differs between two runs.
var varying = regexp.MustCompile(`SHA256:[^ ",]+|until .* UTC \([^)]+\)`)

const firstTask = `
bin=$(mktemp -d)
go build -o "$bin/" ./sidecar
for stub in aws docker; do
	printf '#!/bin/sh\ncase "$*" in *OutputKey*) echo alias/app ;; esac\n' > "$bin/$stub"
	chmod +x "$bin/$stub"
done
export PATH="$bin:$PATH"
`

// An administrator does what step 5 of the page says: runs the statement that keygen printed, which it gets as a request.
type administrator struct {
	t         *testing.T
	snowflake *localsnowflake.Server
}

func (a administrator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	printed, err := io.ReadAll(r.Body)
	statement := alterUser.FindSubmatch(printed)
	if err != nil || statement == nil {
		a.t.Errorf("keygen printed no ALTER USER: %v\n%s", err, printed)
		return
	}
	key, err := base64.StdEncoding.DecodeString(string(statement[1]))
	if err != nil {
		a.t.Error(err)
		return
	}
	public, err := x509.ParsePKIXPublicKey(key)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.snowflake.SetPublicKey("APP_USER", 1, public.(*rsa.PublicKey))
	a.snowflake.SetRoles("APP_USER", "KEY_ROTATOR")
	a.snowflake.Grant(localsnowflake.ModifyAuthenticationMethods, "APP_USER", "KEY_ROTATOR")
}

var alterUser = regexp.MustCompile(`(?m)^ALTER USER APP_USER SET RSA_PUBLIC_KEY='([^']+)';$`)

// typed returns the lines of console blocks that follow a prompt, with those that continue them.
func typed(blocks []string) (commands []string) {
	continued := false
	for line := range strings.Lines(strings.Join(blocks, "\n")) {
		line = strings.TrimSuffix(line, "\n")
		command, prompted := strings.CutPrefix(line, "$ ")
		if prompted || continued {
			commands = append(commands, command)
			continued = strings.HasSuffix(command, "\\")
		}
	}
	return commands
}

func replace(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("the page has %q %d times, want it once", old, strings.Count(text, old))
	}
	return strings.Replace(text, old, replacement, 1)
}

func serve(t *testing.T, handler http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// The loop of the contract calls use with each key once, keeps going without the file, and tries again what use refused.
func TestContract_ReadersLoopFollowsTheKey(t *testing.T) {
	loop := strings.Join(blocks(t, "../../../docs/contract.md", "python"), "\n")
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("it needs python3")
	}
	printed := run(t, t.TempDir(), "python3 - <<'END'\n"+loop+`
import os

steps = iter(["first", "first", None, "refused", "second"])


def step(_):
    content = next(steps, "end")
    if os.path.exists("key"):
        os.remove("key")
    if content is not None:
        with open("key", "w") as file:
            file.write(content)


def use(key):
    print(key.decode())
    if key == b"refused":
        raise ValueError
    if key == b"end":
        raise SystemExit


time.sleep = step
follow("key", use)
END
`)
	if printed != "first\nrefused\nsecond\nend\n" {
		t.Errorf("the loop used %q", printed)
	}
}
