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
	"slices"
	"strings"
	"time"

	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/process"
)

// A trial is one run. The fields below observations are for later steps.
type trial struct {
	options
	name         string // of everything that it creates, such as snowkey-live-1a2b3c4d
	dir          string // programs, keys and files for the AWS CLI, for as long as it runs
	aws          *awsCLI
	snowflake    connection
	admin        *sql.DB
	cleanups     *cleanupList
	observations map[string]observation

	serverVersion        string // Snowflake's
	partition, accountID string // AWS's
	kmsKey               string
	roles                map[string]credentials // by the policy's file
	published            string                 // fingerprint of the key in use
	processes            process.Group
	queries              *process.Queries
}

// An observation is what a trial has seen of an assumption.
type observation struct {
	confirmed bool
	seen      string
}

// newTrial gives it a name, a directory and a list of cleanups. It creates nothing in either account.
func newTrial(ctx context.Context, o options) (*trial, error) {
	t, err := identify(ctx, o)
	if err != nil {
		return nil, err
	}
	if _, err := t.database(ctx); err != nil {
		return nil, err
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	t.name = namePrefix + hex.EncodeToString(random)
	if t.dir, err = os.MkdirTemp("", t.name+"-"); err != nil {
		return nil, errors.Join(err, t.close())
	}
	if t.cleanups, err = newCleanupList(t.name, o, t.place()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(t.dir), t.close())
	}
	t.cleanups.Dir = t.dir
	return t, t.cleanups.add(cleanup{What: "the KMS keys of " + t.name, Keys: t.name})
}

const namePrefix = "snowkey-live-"

// identify asks AWS who the profile is, and reads the connection.
func identify(ctx context.Context, o options) (*trial, error) {
	t := &trial{options: o, observations: map[string]observation{}, roles: map[string]credentials{}}
	var err error
	if t.aws, err = newAWSCLI(ctx, o.awsProfile); err != nil {
		return nil, err
	}
	var caller struct{ Account, Arn string }
	if err := t.aws.runJSON(ctx, &caller, "sts", "get-caller-identity"); err != nil {
		return nil, err
	}
	parts := strings.SplitN(caller.Arn, ":", 3)
	if len(parts) < 3 {
		return nil, fmt.Errorf("sts get-caller-identity answers with %q, which is no ARN", caller.Arn)
	}
	t.accountID, t.partition = caller.Account, parts[1]
	t.snowflake, err = readConnection(os.Getenv("SNOWFLAKE_HOME"), o.connection)
	return t, err
}

func (t *trial) place() place {
	return place{t.accountID, t.aws.region, t.snowflake.Account, t.snowflake.Host}
}

// database logs in as the administrator, once.
func (t *trial) database(ctx context.Context) (*sql.DB, error) {
	if t.admin != nil {
		return t.admin, nil
	}
	db, err := t.snowflake.open(ctx)
	t.admin = db
	return db, err
}

// close logs out of Snowflake.
func (t *trial) close() error {
	if t.admin == nil {
		return nil
	}
	return t.admin.Close()
}

// emulated says which of AWS and Snowflake is an emulator, "" if neither.
func (t *trial) emulated() string {
	var all []string
	if t.aws.endpoint != "" {
		all = append(all, "AWS")
	}
	if t.snowflake.isEmulated() {
		all = append(all, "Snowflake")
	}
	return strings.Join(all, " and ")
}

// parameter is the full name of one of the trial's parameters.
func (t *trial) parameter(name string) string { return "/" + t.name + "/" + name }

// object is the name of the trial's user, role and policy in Snowflake. The user's login name is another one.
func (t *trial) object() string { return strings.ToUpper(strings.ReplaceAll(t.name, "-", "_")) }

func (t *trial) login() string { return t.object() + "_LOGIN" }

// mkdir makes a directory, which no step before has made.
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

// environ is the environment of our programs: credentials, Region and Snowflake's address, and the variables of the
// shell that change none of these.
func (t *trial) environ(aws []string, more ...string) []string {
	environ := append(withoutOverrides(os.Environ()), "AWS_REGION="+t.aws.region, "SNOWFLAKE_USER="+t.login(),
		"SNOWFLAKE_DISABLE_PLATFORM_DETECTION=true", "TMPDIR="+t.dir)
	if t.aws.endpoint != "" {
		environ = append(environ, "AWS_ENDPOINT_URL="+t.aws.endpoint)
	}
	environ = append(environ, t.snowflake.environ()...)
	environ = append(environ, aws...)
	return append(environ, more...)
}

// roleEnviron has the credentials of the role with this policy, or with "" the administrator's profile.
func (t *trial) roleEnviron(policy string) []string {
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
	cmd.Env = t.environ(t.roleEnviron(policy))
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
func (t *trial) start(name string, environ []string, onLine func(string), args ...string) error {
	cmd := exec.Command(t.path("bin/"+name), args...)
	cmd.Env = environ
	p, err := process.Start(name, cmd, onLine)
	if err != nil {
		return err
	}
	t.processes = append(t.processes, p)
	t.cleanups.Processes = append(t.cleanups.Processes, p.PID())
	return t.cleanups.save()
}

// runSteps runs the steps in order, and skips those whose needs failed.
func (t *trial) runSteps(ctx context.Context, steps []step) []result {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	var results []result
	for _, s := range steps {
		began := time.Now()
		err := s.missing(results)
		switch {
		case ctx.Err() != nil:
			err = skipped("the trial was stopped")
		case err == nil:
			fmt.Printf("%s\n", s.name)
			err = s.run(t, ctx)
		}
		r := result{step: s, err: err, took: time.Since(began)}
		fmt.Printf("  %s\n", r.text())
		results = append(results, r)
	}
	if err := t.processes.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
	}
	return results
}

// cleanUp has a context of its own, so that Ctrl-C does not stop it.
func (t *trial) cleanUp(ctx context.Context, interrupted bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	fmt.Println("removing everything; please wait")
	clean := t.cleanups.run
	if interrupted {
		clean = t.cleanups.runTwice
	}
	return errors.Join(clean(ctx, t.removeOne), os.RemoveAll(t.dir))
}

// statementTimeout is for a statement that removes something.
const statementTimeout = time.Minute

func (t *trial) removeOne(ctx context.Context, c cleanup) error {
	for _, args := range c.AWS {
		if _, err := t.aws.run(ctx, args...); err != nil && !isGone(err) {
			return err
		}
	}
	switch {
	case c.Stack != "":
		return t.removeStack(ctx, c.Stack)
	case c.Keys != "":
		return t.removeKeys(ctx, c.Keys)
	case c.SQL == "":
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	db, err := t.database(ctx)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, c.SQL)
	return err
}

// create records how to remove a thing in Snowflake, and creates it.
func (t *trial) create(ctx context.Context, what, statement, undo string) error {
	if err := t.cleanups.add(cleanup{What: what, SQL: undo}); err != nil {
		return err
	}
	_, err := t.admin.ExecContext(ctx, statement)
	return err
}

// observe records what was seen of an assumption.
func (t *trial) observe(ctx context.Context, name string, confirmed bool, format string, args ...any) {
	if ctx.Err() != nil {
		return // what an interrupted step has seen is no answer
	}
	if !slices.ContainsFunc(assumptions, func(a assumption) bool { return a.name == name }) {
		panic("live: no assumption is called " + name)
	}
	t.observations[name] = observation{confirmed, fmt.Sprintf(format, args...)}
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
		if ended := pause(ctx, 3*time.Second); ended != nil {
			return errors.Join(ended, err)
		}
	}
}
