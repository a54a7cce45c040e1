// Package keywatch keeps a key fresh that somebody else writes to a file: it waits for the first
// valid key, notices each later one, and never lets go of a good key for a bad or missing file.
//
// It watches the file's directory, since a file replaced by rename takes a watch on itself with it,
// and looks at the file from time to time all the same: a remount, a bind mount of the one file, or
// a system without inotify gives no event. It never writes, and never logs unless given a logger.
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
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// DefaultPollInterval is how often the file is looked at when no event says to.
const DefaultPollInterval = 5 * time.Second

// settle is how long events may follow one another before the file is read once for all of them.
const settle = 20 * time.Millisecond

// An Option changes how New watches.
type Option func(*Watcher)

// WithPollInterval sets how often the file is looked at when no event says to.
func WithPollInterval(d time.Duration) Option { return func(w *Watcher) { w.poll = d } }

// WithLogger has each new key, and each problem once, logged.
func WithLogger(l *slog.Logger) Option { return func(w *Watcher) { w.log = l } }

// WithoutEvents has the file looked at only at its interval: for a file system whose events say nothing,
// and for tests on simulated time.
func WithoutEvents() Option { return func(w *Watcher) { w.eventless = true } }

// A Watcher holds the newest valid key of a file. Its methods may be called from any goroutine.
type Watcher struct {
	path string
	poll time.Duration
	log  *slog.Logger

	eventless bool

	state   atomic.Pointer[state]
	updated chan struct{}
	check   chan struct{}
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// A state is all that a reader can see, so that it sees parts that belong together.
type state struct {
	key *keyfile.Key
	err error // why the file as it is now is not adopted; nil when it holds key
}

// New watches the key file at path and waits until there is a first valid key in it. ctx bounds that
// wait and nothing after it; the error then says what was wrong with the file.
func New(ctx context.Context, path string, opts ...Option) (*Watcher, error) {
	w := &Watcher{
		path:    filepath.Clean(path),
		poll:    DefaultPollInterval,
		log:     slog.New(slog.DiscardHandler),
		updated: make(chan struct{}, 1),
		check:   make(chan struct{}, 1),
	}
	for _, opt := range opts {
		opt(w)
	}
	if w.poll <= 0 {
		return nil, fmt.Errorf("poll interval %v: it must be positive", w.poll)
	}
	w.state.Store(&state{err: fmt.Errorf("%s was not read yet", path)})
	// The watch is set up before the first read: a key that comes in between is seen by one of them.
	events := &events{dir: filepath.Dir(w.path), off: w.eventless}
	events.renew()
	watching, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.done.Go(func() { w.watch(watching, events) })
	if err := w.first(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Watcher) first(ctx context.Context) error {
	for w.Key() == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no key yet: %w (%w); %s", w.Err(), context.Cause(ctx), whatToDo(w.Err()))
		case <-w.updated:
		}
	}
	return nil
}

func whatToDo(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "run as the sidecar's user or in its group (user 65532:65532 in the task definition)"
	}
	return "start after the sidecar (dependsOn, condition HEALTHY) and mount its volume here"
}

// Key is the newest valid key.
func (w *Watcher) Key() *keyfile.Key { return w.state.Load().key }

// Err is why the file as it is now is not adopted, nil when Key is what it holds.
func (w *Watcher) Err() error { return w.state.Load().err }

// Updated has a value after Key changed. Changes that nobody received in between are one value.
func (w *Watcher) Updated() <-chan struct{} { return w.updated }

// Check has the file looked at now. It does not wait for the outcome.
func (w *Watcher) Check() {
	select {
	case w.check <- struct{}{}:
	default:
	}
}

// Close stops watching and waits until it has stopped. Key stays what it was.
func (w *Watcher) Close() {
	w.stop()
	w.done.Wait()
}

// watch is the one goroutine that reads the file.
func (w *Watcher) watch(ctx context.Context, events *events) {
	defer events.close()
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	var last fingerprint
	for {
		last = w.look(last)
		select {
		case <-ctx.Done():
			return
		case <-w.check:
		case <-poll.C:
			events.renew()
		case <-events.changes():
			events.drain(ctx, settle)
		case err := <-events.losses(): // what the lost events would have said has to be looked up
			w.log.Debug("events of the key directory were lost", "error", err)
		}
	}
}

// A fingerprint is the hash of the file's content, so that an unchanged file is not parsed again.
type fingerprint [sha256.Size]byte

func (w *Watcher) look(last fingerprint) fingerprint {
	data, err := keyfile.ReadBytes(w.path)
	defer clear(data)
	if err != nil {
		w.refuse(err)
		return fingerprint{}
	}
	sum := fingerprint(sha256.Sum256(data))
	if sum == last {
		return last
	}
	key, err := keyfile.Parse(data)
	if err != nil {
		w.refuse(fmt.Errorf("%s: %w", w.path, err))
		return sum
	}
	w.adopt(key)
	return sum
}

func (w *Watcher) adopt(key *keyfile.Key) {
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

// refuse keeps the key and remembers why the file was not adopted. The same reason is logged once.
func (w *Watcher) refuse(err error) {
	before := w.state.Load()
	if before.err == nil || before.err.Error() != err.Error() {
		message := "key file not adopted, key kept"
		if before.key == nil {
			message = "waiting for the first key"
		}
		w.log.Warn(message, "error", err.Error(), "fingerprint", before.key.String())
	}
	w.state.Store(&state{key: before.key, err: err})
}

// events are hints that something in a directory changed. There may be none: no inotify, or no
// directory yet. renew puts that right, so that a poll is late at most once.
type events struct {
	dir     string
	off     bool
	watcher *fsnotify.Watcher
	watched os.FileInfo // the directory that the watch is on
}

// renew watches the directory that stands at the path now, if that is another one than before: a
// directory removed and made again, or mounted over, ends a watch without a word.
func (e *events) renew() {
	if e.off {
		return
	}
	info, err := os.Stat(e.dir)
	if err != nil {
		e.close()
		return
	}
	// A directory made again can have the inode of the one before, whose watch the kernel has dropped.
	if e.watcher != nil && os.SameFile(info, e.watched) && len(e.watcher.WatchList()) > 0 {
		return
	}
	e.close()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	if err := watcher.Add(e.dir); err != nil {
		watcher.Close()
		return
	}
	e.watcher, e.watched = watcher, info
}

// changes is nil, and so never ready, when there is nothing to watch.
func (e *events) changes() <-chan fsnotify.Event {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Events
}

func (e *events) losses() <-chan error {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Errors
}

// drain takes the events that follow one another closely, so that a burst is one look.
func (e *events) drain(ctx context.Context, settle time.Duration) {
	end := time.NewTimer(settle)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-e.changes():
		}
	}
}

func (e *events) close() {
	if e.watcher != nil {
		e.watcher.Close()
		e.watcher = nil
	}
}
