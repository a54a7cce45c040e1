package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/metrics"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/refresh/trigger"
)

// stopWithin bounds the wait for goroutines at the end. Every write is a rename, so that it is safe
// to leave in the middle of one, for instance when the disk hangs.
const stopWithin = 800 * time.Millisecond

// newSignalLimiter bounds the refreshes that SIGHUP causes.
var newSignalLimiter = func(refresh func(), interval time.Duration) *trigger.Limiter {
	return trigger.NewLimiter(refresh, trigger.LeastGap, interval)
}

func runCommand(environ []string) *cobra.Command {
	var c config.RunConfig
	cmd := &cobra.Command{
		Use:   "run",
		Short: "keep the files fresh until SIGTERM (the default command)",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			log, flush := logwriter.New(cmd.ErrOrStderr())
			defer flush()
			return run(cmd.Context(), &c, log)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func run(ctx context.Context, c *config.RunConfig, log *slog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	options, err := loopOptions(ctx, c, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	k, err := keep(ctx, c, options)
	defer k.wait()
	defer cancel()
	if err != nil {
		return err
	}
	signals := newSignalLimiter(k.refreshNow, c.Interval)
	k.group.Go(func() { signals.Run(ctx) })
	k.group.Go(func() { signals.Forward(ctx, hangups) })
	select {
	case <-ctx.Done():
		log.Info("stopped")
		return nil
	case err := <-k.ended:
		return fmt.Errorf("%s: %w", options.Keys[0].Parameter, err)
	}
}

// A keeper is the loop that keeps the files fresh and what goes with it, refresh.sock and metrics.
type keeper struct {
	refreshNow func()
	ended      chan error // why there is no use in going on
	ctx        context.Context
	group      sync.WaitGroup
}

// keep starts a keeper, which goes on until ctx ends. The options' subscribers are notified once refresh.sock is open. The
// caller ends ctx and then waits, also after an error.
func keep(ctx context.Context, c *config.RunConfig, options refresh.Options) (*keeper, error) {
	k := &keeper{ctx: ctx, ended: make(chan error, 1)}
	log := options.Log
	var names []string
	dirs := map[string]string{}
	for _, key := range options.Keys {
		names = append(names, key.Name)
		dirs[key.Name] = key.Dir.String()
	}
	counts := metrics.New(metrics.Build{Version: version(), Revision: builtFrom()}, names...)
	embedded := metrics.NewEmbedded(c.EMF, log)
	outcomes := refresh.NewMailbox()    // of the sockets: a volume may hang
	afterSockets := options.Subscribers // such as CMD, which may use refresh.sock from its start on
	var started sync.Once
	options.Subscribers = []refresh.Subscriber{
		{Name: "memory", Notify: func(refresh.Outcome) { started.Do(harden.CollectAfterRefreshes) }},
		{Name: "metrics", Notify: counts.Observe},
		{Name: "embedded metrics", Notify: embedded.Observe},
		{Name: "sockets", Notify: outcomes.Put},
	}
	refresher := refresh.New(options)
	k.refreshNow = refresher.RefreshNow
	var served []any
	if c.MetricsAddr != "" {
		listener, err := net.Listen("tcp", c.MetricsAddr)
		if err != nil {
			return k, fmt.Errorf("--metrics-addr: %w; choose another address", err)
		}
		served = []any{"metrics", listener.Addr().String()} // port 0 is whichever is free
		k.group.Go(func() {
			if err := counts.Serve(ctx, listener, refresher.Ready); err != nil {
				log.Error("metrics are no longer served", failure.Attributes(err)...)
			}
		})
	}
	what := slog.String("source", options.Keys[0].Parameter)
	if len(c.Keys) > 1 || names[0] != "" {
		what = slog.Any("keys", names)
	}
	log.With(served...).With("version", version(), what, "dir", c.Dir, "interval", c.Interval.String()).Info("started", harden.Attributes()...)
	requests := trigger.NewLimiter(refresher.Trigger, trigger.LeastGap, c.Interval)
	k.group.Go(func() { requests.Run(ctx) })
	k.group.Go(func() { embedded.Run(ctx) })
	k.group.Go(func() {
		sockets := trigger.NewSockets(requests.Request)
		defer sockets.Close()
		outcomes.Each(ctx, func(o refresh.Outcome) {
			listen(sockets, o, dirs[o.Key], log)
			for _, s := range afterSockets {
				s.Notify(o)
			}
		})
	})
	k.group.Go(func() { k.ended <- refresher.Run(ctx) })
	return k, nil
}

// wait waits for what the end of its context has ended.
func (k *keeper) wait() { waitUntil(k.ctx, &k.group) }

// listen opens the socket after each refresh, since it goes with its volume. It leaves a directory alone that another
// sidecar publishes in, or that cannot be written to.
func listen(sockets *trigger.Sockets, o refresh.Outcome, dir string, log *slog.Logger) {
	if class := failure.Class(o.Err); class == keyfile.ClassLocked || class == keyfile.ClassFilesystem {
		return
	}
	changed, err := sockets.Listen(dir)
	if changed && err != nil {
		log.Warn("refresh.sock is unavailable; send SIGHUP to refresh", failure.Attributes(err)...)
	}
}

// waitUntil waits for the group, and from the end of ctx on for no longer than stopWithin. It reports
// whether the group is done.
func waitUntil(ctx context.Context, group *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done:
		return true
	case <-time.After(stopWithin):
		return false
	}
}
