package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var (
	printedStatement = regexp.MustCompile(`(?m)^ALTER USER \S+ SET RSA_PUBLIC_KEY='([A-Za-z0-9+/=]+)';`)
	printedPrint     = regexp.MustCompile(`(?m)^fingerprint: (SHA256:[A-Za-z0-9+/=]+)`)
)

// keygen stores a key and its passphrase, and runs the statement that is printed.
func (t *trial) keygen(ctx context.Context) error {
	fingerprint, err := t.storeKey(ctx, t.kmsKey, "key", "passphrase")
	if err != nil {
		return err
	}
	t.published = fingerprint
	pairs, err := t.keyPairs(ctx)
	if err != nil {
		return err
	}
	t.observe(ctx, "slots in SHOW USER KEY PAIRS", len(pairs) == 0, "with a key in a slot it has %d rows", len(pairs))
	return nil
}

// parametersCleanup records how to remove a key, its passphrase and the lease of its rotation.
func (t *trial) parametersCleanup(key, passphrase string) error {
	return t.cleanups.add(cleanup{What: "the parameters of " + t.parameter(key), AWS: [][]string{
		{"ssm", "delete-parameters", "--names", t.parameter(key), t.parameter(passphrase), t.parameter(key + ".rotation")},
	}})
}

// storeKey makes a key in two parameters, and assigns it to the user.
func (t *trial) storeKey(ctx context.Context, kmsKey, key, passphrase string) (fingerprint string, err error) {
	if err := t.parametersCleanup(key, passphrase); err != nil {
		return "", err
	}
	out, err := t.sidecar(ctx, "", "keygen", "--generate-passphrase", "--put", "--kms-key="+kmsKey, "--tag=snowkey-live="+t.name,
		"--key-parameter="+t.parameter(key), "--passphrase-parameter="+t.parameter(passphrase))
	if err != nil {
		return "", err
	}
	statement, printed := printedStatement.FindStringSubmatch(out), printedPrint.FindStringSubmatch(out)
	if statement == nil || printed == nil {
		return "", errors.New("keygen printed no ALTER USER statement, or no fingerprint")
	}
	// The statement has SNOWFLAKE_USER, the login name, which is not the name here.
	if _, err := t.admin.ExecContext(ctx, fmt.Sprintf("ALTER USER %s SET RSA_PUBLIC_KEY='%s'", t.object(), statement[1])); err != nil {
		return "", err
	}
	return printed[1], nil
}

// once publishes the key with the task role, after a login with it.
func (t *trial) once(ctx context.Context) error {
	dir, err := t.mkdir("once")
	if err != nil {
		return err
	}
	// A policy that was just attached may take a moment to count.
	return eventually(ctx, time.Minute, func() error {
		if _, err := t.sidecar(ctx, taskPolicy, t.withParameters("once", "--verify", "--dir="+dir)...); err != nil {
			return err
		}
		return checkPublished(dir, t.published)
	})
}

// checkPublished returns an error unless the key with this fingerprint is published in the directory.
func checkPublished(dir, fingerprint string) error {
	key, err := keyfile.Read(filepath.Join(dir, keyfile.DER.FileName()))
	if err != nil {
		return err
	}
	if key.Fingerprint() != fingerprint {
		return fmt.Errorf("%s has the key %s, not %s", dir, key.Fingerprint(), fingerprint)
	}
	return nil
}

// exec runs the consumer below the sidecar, until it has had an answer.
func (t *trial) exec(ctx context.Context) error {
	dir, err := t.mkdir("exec")
	if err != nil {
		return err
	}
	queries := process.NewQueries()
	cmd := exec.Command(t.path("bin/sidecar"), t.withParameters("exec", "--dir="+dir, "--", t.path("bin/consumer"), "-interval=200ms")...)
	cmd.Env = t.environ(t.roleEnviron(taskPolicy), "SNOWFLAKE_PRIVATE_KEY_PATH="+filepath.Join(dir, keyfile.PEM.FileName()))
	p, err := process.Start("sidecar exec", cmd, queries.Line)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = queries.WaitForKey(ctx, t.published)
	if stopped := p.Stop(); err == nil {
		return stopped
	}
	return fmt.Errorf("%w: %w", err, p.LastWords())
}

// taskDir is where the sidecar of the long-running steps publishes.
func (t *trial) taskDir() string { return t.path("task") }

// sidecarInterval is short, so that a rotation takes seconds.
const sidecarInterval = 5 * time.Second

// startTask starts a sidecar and a consumer, which go on through the rotations.
func (t *trial) startTask(ctx context.Context) error {
	if _, err := t.mkdir("task"); err != nil {
		return err
	}
	if err := t.start("sidecar", t.environ(t.roleEnviron(taskPolicy)), nil, t.withParameters("run", "--interval="+sidecarInterval.String(), "--dir="+t.taskDir())...); err != nil {
		return err
	}
	t.queries = process.NewQueries()
	environ := t.environ(nil, "SNOWFLAKE_PRIVATE_KEY_PATH="+filepath.Join(t.taskDir(), keyfile.DER.FileName()))
	if err := t.start("consumer", environ, t.queries.Line, "-interval=200ms", "-workers=4"); err != nil {
		return err
	}
	return t.waitForQueriesOn(ctx, t.published)
}

// waitForQueriesOn waits until queries are answered with a key.
func (t *trial) waitForQueriesOn(ctx context.Context, fingerprint string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := t.queries.WaitForKey(ctx, fingerprint); err != nil {
		return errors.Join(err, t.processes.LastWords())
	}
	return nil
}

// doctor examines the directory of the running sidecar.
func (t *trial) doctor(ctx context.Context) error {
	_, err := t.sidecar(ctx, taskPolicy, t.withParameters("doctor", "--dir="+t.taskDir())...)
	return err
}

// stopTask stops consumer and sidecar: over all rotations no query may have failed.
func (t *trial) stopTask(context.Context) error {
	if err := t.processes.Stop(); err != nil {
		return err
	}
	counts := t.queries.Counts()
	if counts.Failed > 0 || counts.OwnFailed > 0 || !counts.Stopped {
		return fmt.Errorf("of %d queries %d failed", counts.OwnQueries, max(counts.Failed, counts.OwnFailed))
	}
	return nil
}
