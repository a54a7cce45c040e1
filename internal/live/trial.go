package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/snowkey/snowkey/internal/build"
	"github.com/snowkey/snowkey/internal/process"
)

// A trial is one run. The fields below findings are what steps leave to later ones.
type trial struct {
	settings
	name      string // of everything that it creates, such as snowkey-live-1a2b3c4d
	dir       string // programs, keys and files for the AWS CLI, for as long as it runs
	aws       *awsCLI
	snowflake connection
	admin     *sql.DB
	ledger    *ledger
	findings  map[string]finding

	serverVersion        string // Snowflake's
	partition, accountID string // AWS's
	kmsKey               string
	roles                map[string]credentials // by the policy's file
	published            string                 // fingerprint of the key in use
	processes            []*process.Process
	queries              *process.Queries
}

// A finding is what was seen about a statement that rests on inference.
type finding struct {
	asStated bool
	seen     string
}

func newTrial(ctx context.Context, s settings) (*trial, error) {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	t := &trial{settings: s, name: "snowkey-live-" + hex.EncodeToString(random), findings: map[string]finding{}, roles: map[string]credentials{}}
	var err error
	if t.aws, err = newAWSCLI(ctx, s.awsProfile); err != nil {
		return nil, err
	}
	if t.snowflake, err = readConnection(s.connection); err != nil {
		return nil, err
	}
	if t.admin, err = t.snowflake.open(ctx); err != nil {
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", t.name+"-"); err != nil {
		return nil, errors.Join(err, t.admin.Close())
	}
	if t.ledger, err = newLedger(t.name, s); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// close removes what the trial has on this machine.
func (t *trial) close() {
	for _, err := range []error{t.admin.Close(), os.RemoveAll(t.dir)} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "live:", err)
		}
	}
}

// standIns says what stands in for AWS or Snowflake, "" if nothing does.
func (t *trial) standIns() string {
	var all []string
	if t.aws.endpoint != "" {
		all = append(all, "AWS")
	}
	if t.snowflake.standIn() {
		all = append(all, "Snowflake")
	}
	return strings.Join(all, " and ")
}

// parameter is the full name of one of the trial's parameters.
func (t *trial) parameter(name string) string { return "/" + t.name + "/" + name }

// object is the name of the trial's user, role and policy in Snowflake. The user's login name is another one.
func (t *trial) object() string { return strings.ToUpper(strings.ReplaceAll(t.name, "-", "_")) }

func (t *trial) login() string { return t.object() + "_LOGIN" }

// mkdir makes a folder, which no step before has made.
func (t *trial) mkdir(name string) (string, error) {
	return t.path(name), os.Mkdir(t.path(name), 0o700)
}

func (t *trial) path(name string) string { return filepath.Join(t.dir, name) }

// build makes the programs.
func (t *trial) build(ctx context.Context) error {
	if _, err := t.mkdir("bin"); err != nil {
		return err
	}
	return build.Programs(ctx, t.path("bin"), nil, "sidecar", "consumer")
}

// environ is what programs of ours get: credentials, Region and Snowflake's whereabouts, and of the shell what has
// nothing to do with them.
func (t *trial) environ(aws []string, more ...string) []string {
	environ := append(withoutSettings(os.Environ()), "AWS_REGION="+t.aws.region, "SNOWFLAKE_USER="+t.login(),
		"SNOWFLAKE_DISABLE_PLATFORM_DETECTION=true", "TMPDIR="+t.dir)
	if t.aws.endpoint != "" {
		environ = append(environ, "AWS_ENDPOINT_URL="+t.aws.endpoint)
	}
	environ = append(environ, t.snowflake.environ()...)
	environ = append(environ, aws...)
	return append(environ, more...)
}

// as are the credentials of a role that step "roles" has made, or with "" the administrator's profile.
func (t *trial) as(policy string) []string {
	if policy == "" {
		return []string{"AWS_PROFILE=" + t.aws.profile}
	}
	return t.roles[policy].environ()
}

// withParameters are the arguments of a command for the trial's key.
func (t *trial) withParameters(command string, args ...string) []string {
	return append([]string{command, "--key-parameter=" + t.parameter("key"), "--passphrase-parameter=" + t.parameter("passphrase")}, args...)
}

// sidecar runs a command of the sidecar to its end, with the credentials of a role, and returns its stdout.
func (t *trial) sidecar(ctx context.Context, policy string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.path("bin/sidecar"), args...)
	cmd.Env = t.environ(t.as(policy))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	said := ""
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		said = lastLines(string(exit.Stderr)+string(out), 3)
	}
	return string(out), fmt.Errorf("sidecar %s: %w: %s", args[0], err, said)
}

// commandTimeout is longer than a grace period, and than the sidecar's own retries of a rotation's requests.
const commandTimeout = 20 * time.Minute

// start runs a program of ours until the trial ends.
func (t *trial) start(name string, environ []string, onLine func(string), args ...string) (*process.Process, error) {
	p, err := process.Start(name, t.path("bin/"+name), environ, onLine, args...)
	if err == nil {
		t.processes = append(t.processes, p)
	}
	return p, err
}

// stopProcesses ends what start started, the last one first.
func (t *trial) stopProcesses() error {
	var all []error
	for len(t.processes) > 0 {
		last := len(t.processes) - 1
		all = append(all, t.processes[last].Stop())
		t.processes = t.processes[:last]
	}
	return errors.Join(all...)
}

// try runs every step whose needs are met, and the others not, until ctx ends.
func (t *trial) try(ctx context.Context, steps []step) []result {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	var results []result
	for _, s := range steps {
		began := time.Now()
		err := s.missing(results)
		switch {
		case ctx.Err() != nil:
			err = notRun("the trial was stopped")
		case err == nil:
			fmt.Printf("%s\n", s.name)
			err = s.run(t, ctx)
		}
		r := result{step: s, err: err, took: time.Since(began)}
		fmt.Printf("  %s\n", r.text())
		results = append(results, r)
	}
	if err := t.stopProcesses(); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
	}
	return results
}

// removeAll does not end with the trial's context: what Ctrl-C has interrupted is removed, too.
func (t *trial) removeAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), removalTimeout)
	defer cancel()
	return t.ledger.removeAll(ctx, t.remove)
}

func (t *trial) remove(ctx context.Context, r removal) error {
	for _, args := range r.AWS {
		if _, err := t.aws.run(ctx, args...); err != nil && !isGone(err) {
			return err
		}
	}
	if r.Stack != "" {
		return t.removeStack(ctx, r.Stack)
	}
	if r.SQL == "" {
		return nil
	}
	_, err := t.admin.ExecContext(ctx, r.SQL)
	return err
}

// create writes down how to remove a thing in Snowflake, and creates it.
func (t *trial) create(ctx context.Context, what, statement, undo string) error {
	if err := t.ledger.add(removal{What: what, SQL: undo}); err != nil {
		return err
	}
	_, err := t.admin.ExecContext(ctx, statement)
	return err
}

// find records what was seen about a statement that rests on inference.
func (t *trial) find(name string, asStated bool, format string, args ...any) {
	t.findings[name] = finding{asStated, fmt.Sprintf(format, args...)}
}

// lastLines are the last of a text, in one.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// eventually retries what AWS needs a moment for, such as a role that was just created.
func eventually(ctx context.Context, timeout time.Duration, do func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := do()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(3 * time.Second):
		}
	}
}
