package keywatch_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/snowkey/snowkey/shared/keywatch"
)

const (
	noEvents    = "no file events, the key file is only polled"
	eventsAgain = "file events work again"
)

// An inotify is the system's, and fails on demand.
type inotify struct {
	fails    atomic.Pointer[error]
	attempts chan error // the results of attempts to watch; those that do not fit are dropped
}

func newInotify(fails error) *inotify {
	n := &inotify{attempts: make(chan error, 100)}
	n.fails.Store(&fails)
	return n
}

func (n *inotify) watch(dir string) (watcher *fsnotify.Watcher, err error) {
	if err = *n.fails.Load(); err == nil {
		watcher, err = keywatch.WatchDir(dir)
	}
	select {
	case n.attempts <- err:
	default:
	}
	return watcher, err
}

// failed waits for several attempts from now on that fail.
func (n *inotify) failed(t *testing.T) {
	t.Helper()
	for len(n.attempts) > 0 {
		<-n.attempts
	}
	deadline := time.After(timeout)
	for failures := 0; failures < 5; {
		select {
		case err := <-n.attempts:
			if err != nil {
				failures++
			}
		case <-deadline:
			t.Fatalf("%d attempts to watch failed", failures)
		}
	}
}

func TestWatcher_NoInotify(t *testing.T) {
	for name, tc := range map[string]struct {
		fails  error
		advice string
	}{
		"no instances":   {fmt.Errorf("couldn't initialize inotify: %w", syscall.EMFILE), "fs.inotify.max_user_instances"},
		"no watches":     {os.NewSyscallError("inotify_add_watch", syscall.ENOSPC), "fs.inotify.max_user_watches"},
		"no inotify":     {syscall.ENOSYS, "shorter poll interval"},
		"no permission":  {syscall.EACCES, "let this user read the directory"},
		"something else": {syscall.ENOMEM, "shorter poll interval"},
	} {
		t.Run(name, func(t *testing.T) {
			const interval = 2 * time.Millisecond
			dir := filepath.Join(t.TempDir(), "keys")
			path := filepath.Join(dir, "rsa_key.der")
			makeDir(t, dir)
			publish(t, path, 0)
			log, inotify := newLog(), newInotify(tc.fails)
			w := open(t, path, interval, keywatch.WithLogger(log.logger()), keywatch.WithWatchDir(inotify.watch))

			// The key is polled, and one line says why.
			publish(t, path, 1)
			expect(t, w, 1)
			inotify.failed(t)
			lines, _ := log.of(noEvents)
			if len(lines) != 1 {
				t.Fatalf("%d lines:\n%s", len(lines), log)
			}
			if lines[0].level != slog.LevelWarn {
				t.Errorf("level %v", lines[0].level)
			}
			for key, want := range map[string]string{
				"error": tc.fails.Error(), "poll_interval": interval.String(), "path": dir, "advice": tc.advice,
			} {
				if got := lines[0].attrs[key]; !strings.Contains(got, want) {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if w.Err() != nil {
				t.Errorf("error %v: the file is usable", w.Err())
			}

			// Events work again; when they then fail for another directory, that is logged again.
			inotify.fails.Store(new(error))
			log.wait(t, eventsAgain, 1)
			inotify.fails.Store(&tc.fails)
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
			makeDir(t, dir)
			publish(t, path, 0)
			log.wait(t, noEvents, 2)
			inotify.failed(t)
			expect(t, w, 0)
			if warned, again := log.count(noEvents), log.count(eventsAgain); warned != 2 || again != 1 {
				t.Errorf("%d warnings, %d times again:\n%s", warned, again, log)
			}
		})
	}
}

// A missing directory is no lack of events: the file's own error says that it is missing.
func TestWatcher_MissingDirectoryIsNotLackOfEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	path := filepath.Join(dir, "rsa_key.der")
	log := newLog()
	go func() {
		log.wait(t, "waiting for the first key", 1)
		makeDir(t, dir)
		publish(t, path, 0)
	}()
	w := open(t, path, 2*time.Millisecond, keywatch.WithLogger(log.logger()))
	expect(t, w, 0)
	w.Close()
	if n := log.count(noEvents) + log.count(eventsAgain); n != 0 {
		t.Errorf("%d lines about events:\n%s", n, log)
	}
}

func TestWatcher_WithoutEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	log := newLog()
	w := open(t, path, 2*time.Millisecond, keywatch.WithLogger(log.logger()), keywatch.WithoutEvents())
	publish(t, path, 1)
	expect(t, w, 1)
	if n := log.count(noEvents); n != 0 {
		t.Errorf("%d lines about events, which are switched off:\n%s", n, log)
	}
}
