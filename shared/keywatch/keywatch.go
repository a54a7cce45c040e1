// Package keywatch follows a Snowflake key, a file or a socket, that snowkey's sidecar publishes. It waits for the first
// valid key, notices each new one, and keeps the last valid key while the file or socket is missing or gives none:
//
//	w, err := keywatch.New(ctx, "/run/snowflake/rsa_key.der")
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	sign(w.Key().RSA()) // the newest key, at each login
//
// A program that queries Snowflake with database/sql does not need it: the package snowkey follows the key by itself. A
// program that reads the key for a single login calls keyfile.Read.
//
// # How it notices a new key
//
// It watches the directory, because a watch on the file itself ends when the file is replaced by rename. A socket causes
// no event when its key changes, but status.json beside it does. The Watcher also polls, every [DefaultPollInterval]
// unless told otherwise, because some changes cause no event: a remount, a write through a bind mount of the single file,
// a system without inotify.
//
// # Rotation
//
// A new key is there as soon as [Watcher.Key] returns it, and [Watcher.Updated] then has a value. Snowflake may not accept
// the key yet: a program that logs in keeps its old session until a login with the new key has succeeded.
//
// # Errors
//
// [New] fails if there is no valid key before its context ends, and [Watcher.Err] tells why there is none later. Both
// have the errors of [keyfile.Read], for use with [errors.Is]: [fs.ErrNotExist], [fs.ErrPermission],
// [keyfile.ErrNotServed], [keyfile.ErrNotKey] and others.
//
// # Concurrency
//
// The methods of a [Watcher] may be called from several goroutines. The Watcher itself has one goroutine, which ends with
// [Watcher.Close].
//
// # What it never does
//
// It never writes a file, never uses the network, never replaces a valid key by none, and never logs without
// [WithLogger].
package keywatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// DefaultPollInterval is the time between two polls of the file, if there is no [WithPollInterval].
const DefaultPollInterval = 5 * time.Second

// debounce is how long events are collected before one read of the file for all of them.
const debounce = 20 * time.Millisecond

// An Option changes how [New] watches.
type Option func(*options)

type options struct {
	interval time.Duration
	log      *slog.Logger
	watch    func(dir string) (*fsnotify.Watcher, error) // nil to only poll
}

// WithPollInterval sets the time between two polls of the file. The default is [DefaultPollInterval]. [New] fails if d is
// not positive. Events are handled at once, whatever the interval.
func WithPollInterval(d time.Duration) Option { return func(o *options) { o.interval = d } }

// WithLogger logs to l: each new key, each problem with the file once, and once that there are no file events, so that the
// file is only polled. The default, also for nil, is not to log.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithoutEvents makes the Watcher only poll the file. It is for file systems without useful events, e.g. network file
// systems, and for tests with simulated time. The default is to use events, too.
func WithoutEvents() Option { return func(o *options) { o.watch = nil } }

// A Watcher has the current key of a file or a socket. [New] makes it; the zero Watcher is not usable.
type Watcher struct {
	path     string
	interval time.Duration
	log      *slog.Logger
	dir      dirWatch // of the run goroutine, once it has started

	state   atomic.Pointer[state]
	ready   chan struct{} // closed when there is a first key
	updated chan struct{}
	poll    chan struct{}
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// A state is what callers see. It is replaced as a whole, so that key and err fit.
type state struct {
	key *keyfile.Key
	err error // why the file gives no key now; nil when it holds key
}

// New watches the file or socket at path, and waits until it gives a first valid key, in any form that [keyfile.Parse]
// reads. ctx bounds only this wait: it does not end the Watcher, which works until [Watcher.Close].
//
// When ctx ends, the error wraps both the last error of [keyfile.ReadContext] and ctx's cause. The only other error is for
// an interval of [WithPollInterval] that is not positive.
func New(ctx context.Context, path string, opts ...Option) (*Watcher, error) {
	o := options{interval: DefaultPollInterval, log: slog.New(slog.DiscardHandler), watch: watchDir}
	for _, opt := range opts {
		opt(&o)
	}
	if o.interval <= 0 {
		return nil, fmt.Errorf("poll interval %v: it must be positive", o.interval)
	}
	path = filepath.Clean(path)
	w := &Watcher{
		path: path, interval: o.interval, log: o.log,
		dir:     dirWatch{path: filepath.Dir(path), watch: o.watch},
		ready:   make(chan struct{}),
		updated: make(chan struct{}, 1),
		poll:    make(chan struct{}, 1),
	}
	w.state.Store(&state{err: fmt.Errorf("%s was not read yet", path)})
	// The watch starts before the first read, so that one of the two sees a key that is written in between.
	w.rewatch()
	running, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.done.Go(func() { w.run(running) })
	if err := w.waitForKey(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Watcher) waitForKey(ctx context.Context) error {
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	now := w.state.Load()
	if now.key != nil {
		return nil
	}
	return fmt.Errorf("no key yet: %w (%w); %s", now.err, context.Cause(ctx), keyAdvice(now.err))
}

func keyAdvice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "run as the sidecar's user or in its group (user 65532:65532 in the task definition; in a pod securityContext.fsGroup, for all containers)"
	}
	if errors.Is(err, keyfile.ErrSocketClosed) {
		return `see "a reader got no key" in the sidecar's log: most likely a program holds too many connections`
	}
	if errors.Is(err, keyfile.ErrNotServed) {
		return "start the sidecar, with --serve, or wait until it is back"
	}
	return "start after the sidecar (dependsOn, condition HEALTHY) and mount its volume here"
}

// Key returns the current key: the last valid one that the file or socket gave. It is never nil. It does not read the
// file, so it may be called at each login.
func (w *Watcher) Key() *keyfile.Key { return w.state.Load().key }

// Err returns why the file or socket gives no valid key now, although [Watcher.Key] still has the last one. It is nil while
// the file or socket gives that key. The errors are those of [keyfile.Read].
func (w *Watcher) Err() error { return w.state.Load().err }

// Updated returns a channel that has a value after [Watcher.Key] has changed. The first key, for which [New] waits, is no
// change. Several changes without a receive in between are one value, so receive in one goroutine only. Close does not
// close the channel.
func (w *Watcher) Updated() <-chan struct{} { return w.updated }

// Poll makes the Watcher read the file now instead of at the next event or poll. It returns at once, before the file has
// been read.
func (w *Watcher) Poll() {
	select {
	case w.poll <- struct{}{}:
	default:
	}
}

// Close ends the Watcher's goroutine and waits for that. [Watcher.Key] stays what it was. Close may be called several
// times.
func (w *Watcher) Close() {
	w.stop()
	w.done.Wait()
}

// run is the only goroutine that reads the file.
func (w *Watcher) run(ctx context.Context) {
	defer w.dir.close()
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	var last contentHash
	for {
		last = w.readFile(ctx, last)
		select {
		case <-ctx.Done():
			return
		case <-w.poll:
		case <-ticker.C:
			w.rewatch()
		case <-w.dir.events():
			w.dir.drain(ctx, debounce)
		case err := <-w.dir.errors():
			w.log.Debug("file events lost, reading the key file", "error", err)
		}
	}
}

// A contentHash is the hash of a file's content, so that an unchanged file is not parsed again.
type contentHash [sha256.Size]byte

// readFile reads the file, and parses it if its content has changed. It returns the hash of the content.
func (w *Watcher) readFile(ctx context.Context, last contentHash) contentHash {
	data, err := keyfile.ReadBytes(ctx, w.path)
	defer clear(data)
	if ctx.Err() != nil {
		return last
	}
	if err != nil {
		w.keepCurrent(err)
		return contentHash{}
	}
	sum := contentHash(sha256.Sum256(data))
	if sum == last {
		return last
	}
	key, err := keyfile.Parse(data)
	if err != nil {
		w.keepCurrent(fmt.Errorf("%s: %w", w.path, err))
		return sum
	}
	w.setCurrent(key)
	return sum
}

// setCurrent makes key the current key.
func (w *Watcher) setCurrent(key *keyfile.Key) {
	current := w.Key()
	if key.Equal(current) {
		w.state.Store(&state{key: current})
		return
	}
	w.state.Store(&state{key: key})
	w.log.Info("new key", "fingerprint", key.Fingerprint(), "path", w.path)
	if current == nil {
		close(w.ready)
		return
	}
	select {
	case w.updated <- struct{}{}:
	default:
	}
}

// keepCurrent keeps the current key and stores why the file gives none. The same reason is logged once.
func (w *Watcher) keepCurrent(err error) {
	before := w.state.Load()
	if before.err == nil || before.err.Error() != err.Error() {
		message := "key not usable, keeping the current one"
		if before.key == nil {
			message = "waiting for the first key"
		}
		w.log.Warn(message, "error", err.Error(), "fingerprint", before.key.String())
	}
	w.state.Store(&state{key: before.key, err: err})
}

// rewatch watches the directory if it is not watched. It logs once that there are no events, and once that there are
// again.
func (w *Watcher) rewatch() {
	before := w.dir.err
	w.dir.rewatch()
	switch err := w.dir.err; {
	case before == nil && err != nil:
		w.log.Warn("no file events, the key file is only polled", "path", w.dir.path,
			"poll_interval", w.interval.String(), "error", err.Error(), "advice", eventsAdvice(err))
	case before != nil && err == nil:
		w.log.Info("file events work again", "path", w.dir.path)
	}
}

func eventsAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "raise fs.inotify.max_user_instances, or the process's limit of open files"
	case errors.Is(err, syscall.ENOSPC):
		return "raise fs.inotify.max_user_watches"
	case errors.Is(err, syscall.ENOSYS):
		return "use a system with inotify, or a shorter poll interval"
	case errors.Is(err, fs.ErrPermission):
		return "let this user read the directory, not only search it"
	default:
		return "use a shorter poll interval if new keys are noticed too late"
	}
}

// A dirWatch watches a directory if that is possible. Without events the file is still polled.
type dirWatch struct {
	path    string
	watch   func(dir string) (*fsnotify.Watcher, error) // watchDir; nil to only poll
	watcher *fsnotify.Watcher                           // nil when there are no events
	watched os.FileInfo                                 // the directory that watcher watches
	err     error                                       // why the last attempt to watch failed; nil when it succeeded
}

// watchDir watches a directory for file events.
func watchDir(dir string) (*fsnotify.Watcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(dir); err != nil {
		watcher.Close()
		return nil, err
	}
	return watcher, nil
}

// rewatch watches the directory that is at the path now, if it does not do so already: the watch on a directory ends
// without an event when the directory is removed, created again or mounted over. If there is no directory, err stays as
// it was.
func (d *dirWatch) rewatch() {
	if d.watch == nil {
		return
	}
	info, err := os.Stat(d.path)
	if err != nil {
		d.close()
		return
	}
	// A new directory can have the inode of a removed one, whose watch the kernel has dropped.
	if d.watcher != nil && os.SameFile(info, d.watched) && len(d.watcher.WatchList()) > 0 {
		return
	}
	d.close()
	os.SameFile(info, info) // on Windows this reads the identity, which a later comparison would read of a later directory
	watcher, err := d.watch(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return // removed since
	}
	d.watcher, d.watched, d.err = watcher, info, err
}

// events returns nil, from which nothing is received, when the directory is not watched.
func (d *dirWatch) events() <-chan fsnotify.Event {
	if d.watcher == nil {
		return nil
	}
	return d.watcher.Events
}

// errors returns fsnotify's errors, above all that events were lost because there were too many.
func (d *dirWatch) errors() <-chan error {
	if d.watcher == nil {
		return nil
	}
	return d.watcher.Errors
}

// drain receives the events of the next moments, so that a burst of them causes one read.
func (d *dirWatch) drain(ctx context.Context, during time.Duration) {
	end := time.NewTimer(during)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-d.events():
		}
	}
}

func (d *dirWatch) close() {
	if d.watcher != nil {
		d.watcher.Close()
		d.watcher = nil
	}
}
