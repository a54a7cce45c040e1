// Package daemon makes a refresher from the settings of a command, and runs it: until the command ends, with refresh.sock,
// SIGHUP and metrics beside it, or once.
//
// It never ends because a key cannot be fetched or published, and never waits long at the end: every write is a rename,
// so the process may end in the middle of one.
package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/metrics"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/refresh/trigger"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// stopTimeout bounds the wait for goroutines at the end, for instance when the disk hangs.
const stopTimeout = 800 * time.Millisecond

// Options are a Daemon's inputs beside the settings.
type Options struct {
	Build       metrics.Build
	Log         *slog.Logger
	SSM         ssm.Options
	SignalGap   time.Duration        // between two refreshes by SIGHUP; if 0 it grows from trigger.LeastGap to the interval
	Immediate   bool                 // refresh at once even if SSM throttled a predecessor
	Subscribers []refresh.Subscriber // are notified once refresh.sock is open; they must not block
}

// A Daemon keeps the key files fresh until its context ends.
type Daemon struct {
	options  refresh.Options
	requests *trigger.Limiter // by programs
	hangups  *trigger.Limiter // by SIGHUP
	failed   chan error
	ctx      context.Context
	group    sync.WaitGroup
}

// Run keeps the key files fresh until ctx ends, or until the key in the environment turns out to be unusable.
func Run(ctx context.Context, c *config.RunConfig, o Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, err := Start(ctx, c, o)
	if err != nil {
		return err
	}
	defer d.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			o.Log.Info("stopped")
			return nil
		case err := <-d.failed:
			return fmt.Errorf("%s: %w", d.options.Keys[0].Parameter, err)
		case <-hangups:
			d.RequestRefresh()
		}
	}
}

// Start starts a Daemon. Wait for it after ctx has ended.
func Start(ctx context.Context, c *config.RunConfig, o Options) (*Daemon, error) {
	d := &Daemon{
		requests: trigger.NewLimiter(trigger.LeastGap, c.Interval),
		hangups:  trigger.NewLimiter(cmp.Or(o.SignalGap, trigger.LeastGap), cmp.Or(o.SignalGap, c.Interval)),
		failed:   make(chan error, 1),
		ctx:      ctx,
	}
	counts, embedded := metrics.New(o.Build, names(c.Keys)...), metrics.NewEmbedded(c.EMF, o.Log)
	var err error
	if d.options, err = runOptions(ctx, c, o, readers{counts, embedded, o.Log, d.requests.Request}); err != nil {
		return nil, err
	}
	outcomes := refresh.NewMailbox() // for the sockets: a volume may hang
	var first sync.Once
	d.options.Subscribers = []refresh.Subscriber{
		{Name: "memory", Notify: func(refresh.Outcome) { first.Do(harden.CollectAfterRefreshes) }},
		{Name: "metrics", Notify: counts.Observe},
		{Name: "embedded metrics", Notify: embedded.Observe},
		{Name: "sockets", Notify: outcomes.Put},
	}
	refresher := refresh.New(d.options)

	listener, err := listen(ctx, c.MetricsAddr)
	if err != nil {
		return nil, err
	}
	logStart(c, o, listener)
	if listener != nil {
		d.Go(func() { serve(ctx, counts, listener, refresher.Ready, o.Log) })
	}
	d.Go(func() { d.requests.Run(ctx, refresher.Trigger) })
	d.Go(func() { d.hangups.Run(ctx, refresher.RefreshNow) })
	d.Go(func() { embedded.Run(ctx) })
	d.Go(func() { d.runSockets(outcomes, o) })
	d.Go(func() {
		if err := refresher.Run(ctx); err != nil {
			d.failed <- err
		}
	})
	return d, nil
}

// runSockets opens the key's refresh.sock after each refresh, and then notifies the subscribers, until the context ends.
func (d *Daemon) runSockets(outcomes *refresh.Mailbox, o Options) {
	dirs := map[string]string{}
	for _, key := range d.options.Keys {
		dirs[key.Name] = key.Dir.String()
	}
	sockets := trigger.NewSockets(d.requests.Request)
	defer sockets.Close()
	outcomes.Each(d.ctx, func(outcome refresh.Outcome) {
		openSocket(sockets, outcome, dirs[outcome.Key], o.Log)
		for _, s := range o.Subscribers {
			s.Notify(outcome)
		}
	})
}

func names(keys []config.Key) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.Name)
	}
	return all
}

// Keys are the keys that the daemon keeps fresh.
func (d *Daemon) Keys() []refresh.Key { return d.options.Keys }

// GivesUp reports whether no retry of this process can help against err.
func (d *Daemon) GivesUp(err error) bool { return d.options.GiveUp != nil && d.options.GiveUp(err) }

// RequestRefresh triggers a refresh of every key, as SIGHUP does. It does not wait, and requests are limited.
func (d *Daemon) RequestRefresh() { d.hangups.Request() }

// Go runs f in a goroutine that Wait waits for. f ends when the daemon's context ends.
func (d *Daemon) Go(f func()) { d.group.Go(f) }

// Wait waits until the daemon has ended, and after the end of its context for a short time only.
func (d *Daemon) Wait() { waitFor(d.ctx, &d.group) }

// logStart writes the first line of the log, and after it warnings about the settings.
func logStart(c *config.RunConfig, o Options, metricsAt net.Listener) {
	var attributes []any
	if metricsAt != nil {
		attributes = append(attributes, "metrics", metricsAt.Addr().String()) // with port 0 the system has chosen one
	}
	attributes = append(attributes, "version", o.Build.Version)
	if first := c.Keys[0]; first.Name == "" {
		attributes = append(attributes, "source", first.Source())
	} else {
		attributes = append(attributes, "keys", names(c.Keys))
	}
	attributes = append(attributes, "dir", c.Dir, "interval", c.Interval.String())
	o.Log.Info("started", append(attributes, harden.Attributes()...)...)
	for _, w := range c.Warnings() {
		o.Log.Warn(w.Says, "advice", w.Advice)
	}
}

// listen opens the metrics' address. Without an address it gives nil.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics-addr: %w; choose another address", err)
	}
	return listener, nil
}

func serve(ctx context.Context, counts *metrics.Metrics, listener net.Listener, ready func() error, log *slog.Logger) {
	if err := counts.Serve(ctx, listener, ready); err != nil {
		log.Error("metrics are no longer served", failure.Attributes(err)...)
	}
}

// openSocket opens refresh.sock again after each refresh: the socket is gone if its volume was replaced. It leaves a
// directory alone in which another sidecar publishes, or which is not writable.
func openSocket(sockets *trigger.Sockets, o refresh.Outcome, dir string, log *slog.Logger) {
	if class := failure.Class(o.Err); class == keyfile.ClassLocked || class == keyfile.ClassFilesystem {
		return
	}
	changed, err := sockets.Listen(dir)
	if changed && err != nil {
		log.Warn("refresh.sock is unavailable; send SIGHUP to refresh", failure.Attributes(err)...)
	}
}

// waitFor waits for the group, and after the end of ctx for at most stopTimeout. It reports whether the group is done.
func waitFor(ctx context.Context, group *sync.WaitGroup) bool {
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
	case <-time.After(stopTimeout):
		return false
	}
}
