// Command demo rotates a key while queries run, with the real sidecar, the real consumer, the real AWS SDK and
// Snowflake driver, and Parameter Store and Snowflake on this machine. It ends with a table, and with exit code 1 if
// anything in it is wrong.
//
// It never talks to AWS or Snowflake.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/process"
)

// The demo is over in seconds; this is for a machine on which something hangs.
const atMost = time.Minute

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	work, err := os.MkdirTemp("", "snowkey-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	keys, err := os.MkdirTemp(memory(), "snowkey-demo-keys-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(keys)) }()

	say("building the sidecar, the consumer, and a local AWS and Snowflake")
	if err := build.Programs(ctx, work, nil, "sidecar", "consumer", "internal/local/localcloud"); err != nil {
		return fmt.Errorf("%w; run it from the repository: make demo", err)
	}
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	d := &demo{work: work, keys: keys}
	if err := d.rotate(ctx); err != nil {
		return errors.Join(err, d.processes.LastWords(), d.processes.Stop())
	}
	return d.processes.Stop()
}

// memory is a directory in memory, if this machine has the usual one.
func memory() string {
	const shm = "/dev/shm"
	if probe, err := os.MkdirTemp(shm, "snowkey-demo-"); err == nil {
		_ = os.Remove(probe)
		return shm
	}
	return ""
}

const (
	account             = "LOCAL"
	user                = "DEMO"
	keyParameter        = "/demo/key"
	passphraseParameter = "/demo/passphrase"
	passphrase          = "a passphrase for the demo"

	interval = time.Second // between the sidecar's refreshes; 5m outside a demo
	before   = 2 * time.Second
	after    = 2 * time.Second
)

type demo struct {
	work, keys     string
	ssm, snowflake *url.URL
	processes      process.Group
}

// rotate is the story that the README tells.
func (d *demo) rotate(ctx context.Context) error {
	first, second, tool, err := makeKeys(ctx, d.work)
	if err != nil {
		return err
	}
	say("made two encrypted keys with " + tool)
	if err := d.startCloud(ctx, first); err != nil {
		return err
	}
	if err := d.put(ctx, passphraseParameter, passphrase); err != nil {
		return err
	}
	if err := d.put(ctx, keyParameter, first.encrypted); err != nil {
		return err
	}
	say("the first key is in Parameter Store, its public key in Snowflake")
	if err := d.startSidecar(); err != nil {
		return err
	}
	queries, err := d.startConsumer()
	if err != nil {
		return err
	}
	if err := queries.WaitForKey(ctx, first.fingerprint); err != nil {
		return err
	}
	say("queries run on " + first.fingerprint)
	sleep(ctx, before)

	db, err := d.administrator(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := alter(ctx, db, "SET RSA_PUBLIC_KEY_2='"+second.public+"'"); err != nil {
		return err
	}
	say("the second public key is in Snowflake's other slot")
	changed := time.Now()
	if err := d.put(ctx, keyParameter, second.encrypted); err != nil {
		return err
	}
	say("the second key is in Parameter Store; nobody tells the sidecar or the consumer")
	if err := queries.WaitForKey(ctx, second.fingerprint); err != nil {
		return err
	}
	took := time.Since(changed)
	say("queries run on " + second.fingerprint)
	sleep(ctx, after/2)
	if err := alter(ctx, db, "UNSET RSA_PUBLIC_KEY"); err != nil {
		return err
	}
	say("the first public key is gone from Snowflake")
	removed := queries.Counts().Answered
	sleep(ctx, after)

	if err := errors.Join(db.Close(), d.processes.Stop()); err != nil {
		return err
	}
	return report(queries.Counts(), first, second, took, queries.Counts().Answered-removed)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func say(text string) { fmt.Printf("  %s\n", text) }
