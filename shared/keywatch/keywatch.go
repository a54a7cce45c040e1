// Package keywatch follows a key, a file or a socket, that another process publishes. It waits for the first valid
// key, notices each new one, and keeps the current key while the file or socket is missing or gives none.
//
// It watches the directory, since a file that is replaced by rename takes a watch on itself with it; the event of
// a socket is that of status.json beside it. It also polls, since some changes cause no event there: a remount, a
// write through a bind mount of the single file, a system without inotify.
//
// It never writes a file, never uses the network, never replaces a valid key by none, and never logs without
// a logger.
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

// DefaultPollInterval is the time between two polls of the file.
const DefaultPollInterval = 5 * time.Second

// debounce is how long events are collected before one read of the file for all of them.
const debounce = 20 * time.Millisecond

// An Option changes how [New] watches.
type Option func(*Watcher)

// WithPollInterval sets the time between two polls of the file; [DefaultPollInterval] without it. It must be
// positive. Events are handled at once, whatever the interval.
func WithPollInterval(d time.Duration) Option { return func(w *Watcher) { w.poll = d } }

// WithLogger logs to l: each new key, each problem with the file once, and once when there are no file events
// and the file is only polled.
func WithLogger(l *slog.Logger) Option { return func(w *Watcher) { w.log = l } }

// WithoutEvents polls the file only. It is for file systems without useful events, e.g. network file systems,
// and for tests with simulated time.
func WithoutEvents() Option { return func(w *Watcher) { w.dir.watch = nil } }

// A Watcher has the current key of a file. Its methods may be called from several goroutines.
type Watcher struct {
	path string
	poll time.Duration
	log  *slog.Logger
	dir  dirWatch // of the run goroutine, once it has started

	state   atomic.Pointer[state]
	updated chan struct{}
	check   chan struct{}
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// A state is what callers see. It is replaced as a whole, so that key and err belong together.
type state struct {
	key *keyfile.Key
	err error // why the file is not usable now; nil when it holds key
}

// New watches the key file at path and waits until it holds a first valid key, in any form that [keyfile.Parse]
// reads. ctx bounds this wait only; when it ends, the error says what was wrong with the file and wraps both
// that error and ctx's cause. Close the Watcher when it is no longer needed.
func New(ctx context.Context, path string, opts ...Option) (*Watcher, error) {
	w := &Watcher{
		path:    filepath.Clean(path),
		poll:    DefaultPollInterval,
		log:     slog.New(slog.DiscardHandler),
		updated: make(chan struct{}, 1),
		check:   make(chan struct{}, 1),
	}
	w.dir = dirWatch{path: filepath.Dir(w.path), watch: watchDir}
	for _, opt := range opts {
		opt(w)
	}
	if w.poll <= 0 {
		return nil, fmt.Errorf("poll interval %v: it must be positive", w.poll)
	}
	w.state.Store(&state{err: fmt.Errorf("%s was not read yet", path)})
	// The watch starts before the first read: a key that is written in between is seen by one of the two.
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
	for w.Key() == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no key yet: %w (%w); %s", w.Err(), context.Cause(ctx), keyAdvice(w.Err()))
		case <-w.updated:
		}
	}
	return nil
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

// Key returns the current key: the last valid one that the file held. It is never nil.
func (w *Watcher) Key() *keyfile.Key { return w.state.Load().key }

// Err says why the file or socket gives no key now. It is nil when it gives [Watcher.Key]. The errors are those of
// [keyfile.Read].
func (w *Watcher) Err() error { return w.state.Load().err }

// Updated returns a channel that has a value after [Watcher.Key] has changed. Several changes without a receive
// in between are one value, so use it from one goroutine. Close does not close it.
func (w *Watcher) Updated() <-chan struct{} { return w.updated }

// Check makes the Watcher read the file now instead of at the next event or poll. It does not wait for the
// result.
func (w *Watcher) Check() {
	select {
	case w.check <- struct{}{}:
	default:
	}
}

// Close stops watching and waits until that is done. [Watcher.Key] stays what it was. It may be called twice.
func (w *Watcher) Close() {
	w.stop()
	w.done.Wait()
}

// run is the only goroutine that reads the file.
func (w *Watcher) run(ctx context.Context) {
	defer w.dir.close()
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	var last contentHash
	for {
		last = w.readFile(ctx, last)
		select {
		case <-ctx.Done():
			return
		case <-w.check:
		case <-poll.C:
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

// readFile reads the file, and parses it if its content is not the last one. It returns the hash of what it read.
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
	select {
	case w.updated <- struct{}{}:
	default:
	}
}

// keepCurrent keeps the current key and stores why the file is not usable. The same reason is logged once.
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

// rewatch starts to watch the directory if it is not watched. It logs once that there are no events, and once
// that there are again.
func (w *Watcher) rewatch() {
	before := w.dir.err
	w.dir.rewatch()
	switch err := w.dir.err; {
	case before == nil && err != nil:
		w.log.Warn("no file events, the key file is only polled", "path", w.dir.path,
			"poll_interval", w.poll.String(), "error", err.Error(), "advice", eventsAdvice(err))
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

// A dirWatch watches a directory, as far as that is possible. Without events the file is still polled.
type dirWatch struct {
	path    string
	watch   func(dir string) (*fsnotify.Watcher, error) // watchDir; nil to only poll
	watcher *fsnotify.Watcher                           // nil when there are no events
	watched os.FileInfo                                 // the directory that watcher watches
	err     error                                       // why the last attempt to watch failed; nil when it succeeded
}

// watchDir is where file events come from.
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

// rewatch watches the directory that is at the path now, unless it does already: the watch on a directory that
// was removed, created again or mounted over ends without an event. It leaves err as it was when there is no
// directory.
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
