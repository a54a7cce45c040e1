package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// The main goroutine stays on the process's first thread, to which the kernel gives orphans.
func init() { runtime.LockOSThread() }

func execCommand(environ []string) *cobra.Command {
	var c config.ExecConfig
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD ARGS...",
		Short: "publish, then run CMD, and keep the files fresh until it ends",
		Long: "exec publishes the key, then runs CMD, and keeps the files fresh until CMD ends. It passes signals\n" +
			"on, collects orphans, and exits with CMD's status. If the key cannot be had, CMD is not started.",
		Args: commandLine,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			log, flush := logwriter.New(cmd.ErrOrStderr())
			defer flush()
			return runCommandWithKey(cmd.Context(), &c, args, config.WithoutSecrets(environ), log)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

// commandLine wants the dashes, so that no flag of CMD can be taken for one of the sidecar, nor the
// other way round. Like noArguments it repeats nothing.
func commandLine(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return config.UsageError{Err: errors.New("no CMD: write sidecar exec [flags] -- CMD ARGS...; with entryPoint [\"/sidecar\", \"exec\", \"--\"] " +
			"in the task definition, `command` has CMD")}
	case cmd.ArgsLenAtDash() != 0:
		return config.UsageError{Err: errors.New("-- goes between the flags and CMD: sidecar exec [flags] -- CMD ARGS")}
	}
	return nil
}

// A commandStatus is how CMD ended, unless with 0.
type commandStatus int

func (s commandStatus) Error() string { return fmt.Sprintf("CMD ended with %d", int(s)) }

// A stoppedError is a signal before CMD was started.
type stoppedError struct{ signal syscall.Signal }

func (e stoppedError) Error() string { return unix.SignalName(e.signal) + " came first" }

func runCommandWithKey(ctx context.Context, c *config.ExecConfig, args, env []string, log *slog.Logger) error {
	signals, release := supervise.Signals()
	defer release()
	path, err := supervise.Find(args[0], os.Getenv("PATH")) // rather than after a wait for the key
	if err != nil {
		return fmt.Errorf("CMD: %w", err)
	}

	options, err := loopOptions(ctx, &c.RunConfig, log)
	if err != nil {
		return err
	}
	options.Immediate = true                                      // CMD waits for it
	stopped := ctx                                                // by a signal that came before they were caught here
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // CMD may need the key until it has ended
	outcomes, mailbox := make(chan refresh.Outcome), refresh.NewMailbox()
	options.Subscribers = []refresh.Subscriber{{Name: "exec", Notify: mailbox.Put}}
	k, err := keep(ctx, &c.RunConfig, options)
	defer k.wait()
	defer cancel()
	if err != nil {
		return err
	}

	k.group.Go(func() {
		mailbox.Each(ctx, func(o refresh.Outcome) {
			select {
			case outcomes <- o:
			case <-ctx.Done():
			}
		})
	})
	hangups := newSignalLimiter(k.refreshNow, c.Interval)
	k.group.Go(func() { hangups.Run(ctx) })

	w := waiting{options: options, outcomes: outcomes, signals: signals, requestRefresh: hangups.Request, timeout: c.StartTimeout}
	published, err := w.firstKeys(stopped)
	if err != nil {
		return err
	}
	s := supervise.New(supervise.Options{
		Path:        path,
		Args:        args,
		Env:         env,
		Signals:     signals,
		OnChange:    c.OnChange,
		StopTimeout: c.StopTimeout,
		Log:         log,
	})
	k.group.Go(func() { tell(ctx, outcomes, published, s.Change) })
	code, err := s.Run()
	if err != nil {
		return fmt.Errorf("CMD: %w", err)
	}
	if code != 0 {
		return commandStatus(code)
	}
	return nil
}

// waiting is the time until every key is there.
type waiting struct {
	options        refresh.Options
	outcomes       <-chan refresh.Outcome
	signals        <-chan os.Signal
	requestRefresh func()
	timeout        time.Duration
}

// A fingerprints has those of the keys on disk, by the key's name.
type fingerprints map[string]string

// firstKeys waits until every key is on disk. What may pass is waited for, with the pauses of `run`; what
// somebody has to change is returned, and so is a signal: what CMD is for was not done, so that is no
// success.
func (w waiting) firstKeys(ctx context.Context) (fingerprints, error) {
	var late <-chan time.Time
	if w.timeout > 0 {
		late = time.After(w.timeout)
	}
	published, last := fingerprints{}, map[string]error{}
	for len(published) < len(w.options.Keys) {
		select {
		case o := <-w.outcomes:
			if err := w.settle(o, published); err != nil {
				return nil, w.noKey(o.Key, err)
			}
			last[o.Key] = o.Err
		case s := <-w.signals:
			switch s {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
				return nil, w.noKey(w.missing(published), stoppedError{s.(syscall.Signal)})
			case syscall.SIGHUP:
				w.requestRefresh()
			}
		case <-ctx.Done():
			caught, _ := errors.AsType[caughtError](context.Cause(ctx))
			return nil, w.noKey(w.missing(published), stoppedError(caught))
		case <-late:
			name := w.missing(published)
			err := last[name]
			if err == nil {
				err = errors.New("there was no answer yet")
			}
			return nil, w.noKey(name, fmt.Errorf("gave up after %v (--start-timeout): %w", w.timeout, err))
		}
	}
	return published, nil
}

// settle notes a key that is on disk, or gives the reason why there is no use in waiting for it.
func (w waiting) settle(o refresh.Outcome, published fingerprints) error {
	switch {
	case o.Err == nil:
		published[o.Key] = o.Status.Fingerprint
	case failure.Class(o.Err) == keyfile.ClassLocked: // maybe by a task that is ending on the same host; the key is its own
	case w.hopeless(o.Err):
		return refusedError{o.Err}
	case o.Status.Fingerprint != "": // of a predecessor with the same source; the log has why there is no newer one
		published[o.Key] = o.Status.Fingerprint
	case failure.ForGood(o.Err):
		return refusedError{o.Err}
	}
	return nil
}

func (w waiting) key(name string) refresh.Key {
	return w.options.Keys[slices.IndexFunc(w.options.Keys, func(k refresh.Key) bool { return k.Name == name })]
}

// missing is the first key that is not on disk.
func (w waiting) missing(published fingerprints) string {
	for _, k := range w.options.Keys {
		if _, ok := published[k.Name]; !ok {
			return k.Name
		}
	}
	return ""
}

func (w waiting) noKey(name string, err error) error {
	return fmt.Errorf("no key from %s, so CMD was not started: %w", w.key(name).Parameter, ofKey(name, err))
}

// hopeless reports what no refresh of this process can overcome, whatever is on disk: a key from the
// environment that is none, and a directory that is wrong, since a container's mounts come before its
// first process.
func (w waiting) hopeless(err error) bool {
	return failure.Class(err) == keyfile.ClassFilesystem || w.options.GiveUp != nil && w.options.GiveUp(err)
}

// tell calls changed for every refresh that has put another key on disk, in all of its files, than the
// one before.
func tell(ctx context.Context, outcomes <-chan refresh.Outcome, published fingerprints, changed func()) {
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
