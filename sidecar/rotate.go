package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/rotate"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// Of a rotation: how long its lease lasts, and how long it retries what may pass; 0 for the usual. Tests shorten them.
var rotationLease, rotationRetry time.Duration

func rotateCommand(environ []string) *cobra.Command {
	var c config.RotateConfig
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "replace the key while the tasks run, or complete a rotation",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return rotateKey(cmd, &c)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func rotateKey(cmd *cobra.Command, c *config.RotateConfig) error {
	ignoreBrokenPipe()
	stop := cmd.Context()
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		var cancel func()
		stop, cancel = signal.NotifyContext(stop, syscall.SIGHUP)
		defer cancel()
	}
	key, err := ssm.NewKey(ssm.Parameters{Key: c.Key.KeyParameter, Passphrase: c.Key.PassphraseParameter, Given: c.Key.Passphrase})
	if err != nil {
		return config.UsageError{Err: err}
	}
	from, err := ssm.NewReader(cmd.Context(), ssmOptions, key)
	if err != nil {
		return config.UsageError{Err: err}
	}
	to, err := ssm.OpenStore(cmd.Context(), ssmOptions, c.Key.KeyParameter)
	if err != nil {
		return config.UsageError{Err: err}
	}
	attended := logwriter.IsTerminal(cmd.ErrOrStderr())
	var countdown func(string)
	if attended {
		countdown = func(remains string) { fmt.Fprintf(cmd.ErrOrStderr(), "\r%-20s\r%s", remains, remains) }
	}
	// A signal ends a rotation where it does no harm, not in the middle of a change.
	result, err := rotate.Run(context.WithoutCancel(cmd.Context()), rotate.Options{
		Parameter: c.Key.KeyParameter,
		Fetch: func(ctx context.Context) (*ssm.Material, error) {
			if err := to.Check(ctx, c.Key.KeyParameter); err != nil {
				return nil, err
			}
			fetched := from.Fetch(ctx, []ssm.Wanted{{Key: key}})[0]
			return fetched.Material, fetched.Err
		},
		Store:     to,
		Snowflake: c.Key.Snowflake.Client(decrypt.Login{}, version()),
		Goal: rotate.Goal{
			KeyPair: c.KeyPair, Finish: c.Finish, NoWait: c.NoWait, ForceNew: c.ForceNew, RevokeOld: c.RevokeOld,
			Grace: c.Grace, GraceAuto: c.GraceAuto, Interval: c.Interval, MaxAge: c.MaxAge, Attended: attended,
		},
		Bits:      c.Bits,
		DryRun:    c.DryRun,
		Say:       func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) },
		Countdown: countdown,
		Stop:      stop.Done(),
		Lease:     rotationLease,
		RetryFor:  rotationRetry,
	})
	if attended && logwriter.IsTerminal(cmd.OutOrStdout()) {
		result.Error = "" // which is the last line there
	}
	summary, marshalErr := json.Marshal(result)
	if marshalErr != nil {
		return marshalErr
	}
	fmt.Fprintln(cmd.OutOrStdout(), string(summary))
	if rotate.Permanent(err) {
		return failure.Refused{Err: err}
	}
	return err
}

// ignoreBrokenPipe lets a change complete after the reader of its output has gone. Without it a write into a broken pipe
// ends the process.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
