//go:build unix

// Package exec runs a command that needs the keys: it waits until every key is published, starts the command, and signals or
// restarts it when a key changes.
//
// It never starts the command without a key, and passes it no variable that holds a secret.
package exec

import (
	"context"
	"fmt"
	"os"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/daemon"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// Run publishes the keys, then runs the command, and keeps the files fresh until the command ends. It is for the main
// goroutine, locked to the process's first thread. Its errors are a Status, or wrap a *supervise.StartError or a
// StoppedError.
func Run(ctx context.Context, c *config.ExecConfig, command, environ []string, o daemon.Options) error {
	signals, release := supervise.Signals()
	defer release()
	path, err := supervise.Find(command[0], os.Getenv("PATH")) // before the wait for the keys
	if err != nil {
		return fmt.Errorf("CMD: %w", err)
	}

	stopped := ctx                                                // by a signal that came before this function catches signals
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // CMD may need the keys until it has ended
	defer cancel()
	mailbox := refresh.NewMailbox()
	o.Immediate = true // CMD waits for it
	o.Subscribers = append(o.Subscribers, refresh.Subscriber{Name: "exec", Notify: mailbox.Put})
	d, err := daemon.Start(ctx, &c.RunConfig, o)
	if err != nil {
		return err
	}
	defer d.Wait()
	defer cancel()
	outcomes := make(chan refresh.Outcome)
	d.Go(func() { forward(ctx, mailbox, outcomes) })

	w := waiter{
		keys:           d.Keys(),
		outcomes:       outcomes,
		signals:        signals,
		requestRefresh: d.RequestRefresh,
		givesUp:        d.GivesUp,
		timeout:        c.StartTimeout,
	}
	published, err := w.firstKeys(stopped)
	if err != nil {
		return err
	}
	s := supervise.New(supervise.Options{
		Path:        path,
		Args:        command,
		Env:         config.WithoutSecrets(c, environ),
		Signals:     signals,
		OnChange:    c.OnChange,
		StopTimeout: c.StopTimeout,
		Log:         o.Log,
	})
	d.Go(func() { notifyChanges(ctx, outcomes, published, s.Change) })
	code, err := s.Run()
	if err != nil {
		return fmt.Errorf("CMD: %w", err)
	}
	if code != 0 {
		return Status(code)
	}
	return nil
}

// forward hands outcomes on until ctx ends.
func forward(ctx context.Context, from *refresh.Mailbox, to chan<- refresh.Outcome) {
	from.Each(ctx, func(o refresh.Outcome) {
		select {
		case to <- o:
		case <-ctx.Done():
		}
	})
}

// notifyChanges calls changed after every refresh that put another key on disk, in all of its files.
func notifyChanges(ctx context.Context, outcomes <-chan refresh.Outcome, published fingerprints, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-outcomes:
			if o.Err == nil && o.Status.Fingerprint != published[o.Key] {
				published[o.Key] = o.Status.Fingerprint
				changed()
			}
		}
	}
}
