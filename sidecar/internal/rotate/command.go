package rotate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// Inputs are a command's inputs beside its settings.
type Inputs struct {
	SSM      ssm.Options
	Version  string        // of this program, for Snowflake
	Lease    time.Duration // as in Options
	RetryFor time.Duration // as in Options
}

// Command rotates the key as the settings say. It prints the summary to out, and to progress a line for each step. The end
// of ctx, and SIGHUP, end it at a point where that does no harm.
func Command(ctx context.Context, c *config.RotateConfig, i Inputs, out, progress io.Writer) error {
	stop := ctx
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		var cancel func()
		stop, cancel = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer cancel()
	}
	o, err := newOptions(ctx, c, i, progress)
	if err != nil {
		return config.UsageError{Err: err}
	}
	o.Stop = stop.Done()
	result, err := Run(context.WithoutCancel(ctx), o)
	if o.Attended && logwriter.IsTerminal(out) {
		result.Error = "" // which is the last line there
	}
	summary, marshalErr := json.Marshal(result)
	if marshalErr != nil {
		return marshalErr
	}
	fmt.Fprintln(out, string(summary))
	if Permanent(err) {
		return failure.Refused{Err: err}
	}
	return err
}

// newOptions makes a run's options from the settings.
func newOptions(ctx context.Context, c *config.RotateConfig, i Inputs, progress io.Writer) (Options, error) {
	key, err := ssm.NewKey(ssm.Parameters{Key: c.Key.KeyParameter, Passphrase: c.Key.PassphraseParameter, Given: c.Key.Passphrase})
	if err != nil {
		return Options{}, err
	}
	from, err := ssm.NewReader(ctx, i.SSM, key)
	if err != nil {
		return Options{}, err
	}
	to, err := ssm.OpenStore(ctx, i.SSM, c.Key.KeyParameter)
	if err != nil {
		return Options{}, err
	}
	o := Options{
		Parameter: c.Key.KeyParameter,
		Fetch: func(ctx context.Context) (*ssm.Material, error) {
			if err := to.Check(ctx, c.Key.KeyParameter); err != nil {
				return nil, err
			}
			fetched := from.Fetch(ctx, []ssm.Wanted{{Key: key}})[0]
			return fetched.Material, fetched.Err
		},
		Store:     to,
		Snowflake: c.Key.Snowflake.Client(decrypt.Login{}, i.Version),
		Goal: Goal{
			KeyPair: c.KeyPair, Finish: c.Finish, NoWait: c.NoWait, ForceNew: c.ForceNew, RevokeOld: c.RevokeOld,
			Grace: c.Grace, GraceAuto: c.GraceAuto, Interval: c.Interval, MaxAge: c.MaxAge, Attended: logwriter.IsTerminal(progress),
		},
		Bits:     c.Bits,
		DryRun:   c.DryRun,
		Say:      func(line string) { fmt.Fprintln(progress, line) },
		Lease:    i.Lease,
		RetryFor: i.RetryFor,
	}
	if o.Attended {
		o.Countdown = func(remains string) { fmt.Fprintf(progress, "\r%-20s\r%s", remains, remains) }
	}
	return o, nil
}
