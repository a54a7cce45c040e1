//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

var writeDocument = flag.Bool("live.write", false, "write the trial of emulators into docs/live.md")

// emulators are LocalStack, the local Snowflake with fakesnow behind it, and the two profiles that lead there.
type emulators struct {
	dir     string
	environ []string
	cli     *awsCLI
}

func startEmulators(t *testing.T) *emulators {
	t.Helper()
	testenv.Slow(t)
	aws, engine := os.Getenv("LOCALSTACK_ENDPOINT"), os.Getenv("FAKESNOW_ENDPOINT")
	if aws == "" || engine == "" {
		t.Skip("make test-live-local runs it, with LocalStack and fakesnow")
	}
	s := &emulators{dir: t.TempDir()}
	if err := build.Programs(t.Context(), s.dir, nil, "internal/suite/live", "internal/local/localcloud"); err != nil {
		t.Fatal(err)
	}
	snowflake := s.startSnowflake(t, engine)
	s.write(t, "aws", fmt.Sprintf("[profile emulator]\nregion = eu-central-1\nendpoint_url = %s\naws_access_key_id = test\naws_secret_access_key = test\n", aws))
	s.write(t, "connections.toml", fmt.Sprintf("[emulator]\naccount = \"myorg-local\"\nuser = \"ADMIN\"\nauthenticator = \"SNOWFLAKE_JWT\"\n"+
		"private_key_file = %q\nhost = %q\nport = %s\nprotocol = \"http\"\n", filepath.Join(s.dir, "admin.pem"), snowflake.Hostname(), snowflake.Port()))
	// Settings of the shell do not count: the trial drops them.
	s.environ = append(withoutOverrides(os.Environ()), "AWS_CONFIG_FILE="+filepath.Join(s.dir, "aws"), "SNOWFLAKE_HOME="+s.dir,
		"AWS_REGION=us-west-2", "SNOWFLAKE_ACCOUNT=another", "SNOWKEY_DIR=/nowhere")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(s.dir, "aws"))
	var err error
	if s.cli, err = newAWSCLI(t.Context(), "emulator"); err != nil {
		t.Fatal(err)
	}
	return s
}

// startSnowflake starts the local Snowflake, whose user ADMIN has the key admin.pem.
func (s *emulators) startSnowflake(t *testing.T, engine string) *url.URL {
	t.Helper()
	key := testkey.Key(0).RSA()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "admin.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	s.write(t, "admin.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	addresses := make(chan string, 16)
	cmd := exec.Command(filepath.Join(s.dir, "localcloud"), "-ssm=127.0.0.1:0", "-snowflake=127.0.0.1:0", "-account=myorg-local", "-user=ADMIN",
		"-public-key="+filepath.Join(s.dir, "admin.pub"), "-sql-engine="+engine)
	cmd.Env = withoutOverrides(os.Environ())
	cloud, err := process.Start("localcloud", cmd, func(line string) {
		if address, ok := strings.CutPrefix(line, "snowflake "); ok {
			addresses <- address
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case address := <-addresses:
		parsed, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	case <-cloud.Done():
		t.Fatal(cloud.LastWords())
	}
	return nil
}

func (s *emulators) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command is the trial as make test-live runs it, in the repository.
func (s *emulators) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "live"), append([]string{"-aws-profile=emulator", "-snowflake-connection=emulator", "-yes"}, args...)...)
	cmd.Dir = filepath.Join("..", "..", "..")
	cmd.Env = s.environ
	return cmd
}

func TestTrial_RunsAgainstEmulatorsUpToFargate(t *testing.T) {
	s := startEmulators(t)
	document := filepath.Join(s.dir, "live.md")
	if *writeDocument {
		document = filepath.Join("docs", "live.md")
	} else {
		s.write(t, "live.md", "<!-- a trial of emulators -->\n<!-- end of a trial of emulators -->")
	}
	out, err := s.command(t.Context(), "-write="+document).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", document))
	if !*writeDocument {
		text, err = os.ReadFile(document)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		wanted := "| " + step.name + " | ok |"
		switch step.name {
		case "throttling", "a network policy", "a Fargate task from the CloudFormation example":
			wanted = "| " + step.name + " | skipped: "
		}
		if !strings.Contains(string(text), wanted) {
			t.Errorf("no line with %q", wanted)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	s.nothingLeft(t, string(out))
}

// A trial that is interrupted removes everything; so does -remove after a trial was killed.
func TestTrial_InterruptedOrKilledLeavesNothing(t *testing.T) {
	s := startEmulators(t)
	for how, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(how, func(t *testing.T) {
			cmd := s.command(t.Context())
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for scanner := bufio.NewScanner(io.TeeReader(stdout, &out)); scanner.Scan(); {
				if scanner.Text() == "rotate into the other slot" {
					time.Sleep(5 * time.Second) // somewhere in the rotation
					// A terminal's Ctrl-C goes to all of the group, and people press it twice.
					for range 2 {
						if err := syscall.Kill(-cmd.Process.Pid, signal); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
						if signal == syscall.SIGKILL {
							break
						}
					}
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Errorf("it ended well:\n%s", out.String())
			}
			name := trialName(out.String())
			list := filepath.Join(cleanupDir, name+".json")
			if signal == syscall.SIGKILL {
				if out, err := s.command(t.Context(), "-remove="+list).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
			if _, err := os.Stat(filepath.Join("..", "..", "..", list)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the list: %v", err)
			}
			s.nothingLeft(t, out.String())
		})
	}
}

// trialName is in the first line that a trial prints.
func trialName(out string) string {
	_, after, _ := strings.Cut(out, "A trial of snowkey as ")
	name, _, _ := strings.Cut(after, ",")
	return name
}

// nothingLeft lists what there is of each kind, by commands other than those that remove it.
func (s *emulators) nothingLeft(t *testing.T, out string) {
	t.Helper()
	name := trialName(out)
	if !strings.HasPrefix(name, "snowkey-live-") {
		t.Fatalf("no name in:\n%s", out)
	}
	for _, args := range [][]string{
		{"ssm", "describe-parameters"}, {"iam", "list-roles"}, {"secretsmanager", "list-secrets"},
	} {
		found, err := s.cli.run(t.Context(), args...)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(found), name) {
			t.Errorf("aws %s still has %s", args[1], name)
		}
	}
	var stacks struct {
		StackSummaries []struct{ StackName, StackStatus string }
	}
	if err := s.cli.runJSON(t.Context(), &stacks, "cloudformation", "list-stacks"); err != nil {
		t.Error(err)
	}
	for _, stack := range stacks.StackSummaries {
		if strings.HasPrefix(stack.StackName, name) && stack.StackStatus != "DELETE_COMPLETE" {
			t.Errorf("the stack %s is %s", stack.StackName, stack.StackStatus)
		}
	}
	if found, err := exec.Command("pgrep", "-fl", name).CombinedOutput(); err == nil {
		t.Errorf("processes: %s", found)
	}
	if found, _ := filepath.Glob(filepath.Join(os.TempDir(), name+"*")); len(found) > 0 {
		t.Errorf("directories: %v", found)
	}
	if enabled := s.enabledKeys(t); len(enabled) > 0 {
		t.Errorf("KMS keys are enabled: %v", enabled)
	}
	connection, err := readConnection(s.dir, "emulator")
	if err != nil {
		t.Fatal(err)
	}
	db, err := connection.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	users, err := rows(t.Context(), db, "SHOW USERS")
	if err != nil {
		t.Fatal(err)
	}
	if len(users) != 1 {
		t.Errorf("Snowflake has %d users", len(users))
	}
	role := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if _, err := db.ExecContext(t.Context(), "GRANT ROLE "+role+" TO USER ADMIN"); err == nil {
		t.Errorf("Snowflake still has the role %s", role)
	}
}

// enabledKeys are the keys of customers whose deletion is not scheduled.
func (s *emulators) enabledKeys(t *testing.T) []string {
	t.Helper()
	var listed struct {
		Keys []struct {
			ID string `json:"KeyId"`
		}
	}
	if err := s.cli.runJSON(t.Context(), &listed, "kms", "list-keys"); err != nil {
		t.Fatal(err)
	}
	var enabled []string
	for _, key := range listed.Keys {
		out, err := s.cli.run(t.Context(), "kms", "describe-key", "--key-id", key.ID)
		if err != nil {
			t.Fatal(err)
		}
		var described struct {
			KeyMetadata struct{ KeyState, KeyManager string }
		}
		if err := json.Unmarshal(out, &described); err != nil {
			t.Fatal(err)
		}
		if described.KeyMetadata.KeyState == "Enabled" && described.KeyMetadata.KeyManager == "CUSTOMER" {
			enabled = append(enabled, key.ID)
		}
	}
	return enabled
}
