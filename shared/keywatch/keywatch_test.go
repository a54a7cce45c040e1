package keywatch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout bounds each wait. It is for a loaded machine: a wait that succeeds ends at once.
const timeout = time.Minute

// noPoll is an interval that does not end in a test: only events count.
const noPoll = time.Hour

func open(t *testing.T, path string, poll time.Duration, opts ...keywatch.Option) *keywatch.Watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	w, err := keywatch.New(ctx, path, append(opts, keywatch.WithPollInterval(poll))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// replace writes a file as publishers do.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	temp := filepath.Join(filepath.Dir(path), ".temp")
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, path string, n int) {
	t.Helper()
	f := keyfile.Format(strings.TrimPrefix(filepath.Ext(path), "."))
	replace(t, path, f.Encode(testkey.Key(n)))
}

func expect(t *testing.T, w *keywatch.Watcher, n int) {
	t.Helper()
	deadline := time.After(timeout)
	for !w.Key().Equal(testkey.Key(n)) {
		select {
		case <-w.Updated():
		case <-deadline:
			t.Fatalf("key is %v, want %v; %v", w.Key(), testkey.Key(n), w.Err())
		}
	}
}

// expectErr waits until w.Err is an error, or nil. There is no event to wait for.
func expectErr(t *testing.T, w *keywatch.Watcher, want bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); (w.Err() != nil) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("error %v", w.Err())
		}
	}
}

func TestWatcher_Events(t *testing.T) {
	for _, f := range keyfile.Formats {
		t.Run(string(f), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), f.FileName())
			publish(t, path, 0)
			w := open(t, path, noPoll)
			for n := range 4 {
				publish(t, path, n%2)
				expect(t, w, n%2)
			}
		})
	}
}

// While a reader has the old file open, a watch on the file itself would get no event.
func TestWatcher_OldFileHeldOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	publish(t, path, 1)
	expect(t, w, 1)
}

func TestNew_WaitsForFirstKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "rsa_key.der")
	log := newLog()
	go func() {
		log.wait(t, "waiting for the first key", 1)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Error(err)
		}
		publish(t, path, 0)
	}()
	expect(t, open(t, path, 20*time.Millisecond, keywatch.WithLogger(log.logger())), 0)
}

func TestNew_ErrorAtDeadline(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.der")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"no file":   {filepath.Join(dir, "rsa_key.der"), fs.ErrNotExist},
		"not a key": {garbage, keyfile.ErrNotKey},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("the program ends")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, cause)
				defer cancel()
				if _, err := keywatch.New(ctx, tc.path, keywatch.WithoutEvents()); !errors.Is(err, tc.want) || !errors.Is(err, cause) {
					t.Errorf("error %v, want %v and %v", err, tc.want, cause)
				}
			})
		})
	}
}

func TestNew_ContextEndsAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := keywatch.New(ctx, path, keywatch.WithPollInterval(noPoll))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cancel()
	publish(t, path, 1)
	expect(t, w, 1)
}

// unusable are ways to make a key file unusable.
var unusable = map[string]func(t *testing.T, path string){
	"removed": func(t *testing.T, path string) { _ = os.Remove(path) },
	"empty":   func(t *testing.T, path string) { replace(t, path, nil) },
	"half": func(t *testing.T, path string) {
		whole := keyfile.DER.Encode(testkey.Key(1))
		replace(t, path, whole[:len(whole)/2])
	},
	"directory": func(t *testing.T, path string) { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) },
}

const notUsable = "key not usable, keeping the current one"

func TestWatcher_UnusableFile(t *testing.T) {
	for name, spoil := range unusable {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "rsa_key.der")
			publish(t, path, 0)
			log := newLog()
			w := open(t, path, noPoll, keywatch.WithLogger(log.logger()))
			spoil(t, path)
			expectErr(t, w, true)
			expect(t, w, 0)
			_ = os.Remove(path)
			publish(t, path, 0)
			expectErr(t, w, false)
			publish(t, path, 1)
			expect(t, w, 1)
			w.Close()
			if n := log.count(notUsable); n < 1 || n > 2 { // 2: removed, and replaced by something else
				t.Errorf("%d log lines about one problem:\n%s", n, log)
			}
		})
	}
}

func TestWatcher_UnusableFilePolled(t *testing.T) {
	for name, spoil := range unusable {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "rsa_key.der")
			synctest.Test(t, func(t *testing.T) {
				const interval = 10 * time.Millisecond
				publish(t, path, 0)
				log := newLog()
				w := open(t, path, interval, keywatch.WithLogger(log.logger()), keywatch.WithoutEvents())
				spoil(t, path)
				time.Sleep(5*interval + interval/2) // of simulated time: until between two polls
				synctest.Wait()
				expectErr(t, w, true)
				expect(t, w, 0)
				_ = os.Remove(path)
				publish(t, path, 0)
				expectErr(t, w, false)
				publish(t, path, 1)
				expect(t, w, 1)
				w.Close()
				if n := log.count(notUsable); n != 1 {
					t.Errorf("%d log lines about one problem:\n%s", n, log)
				}
			})
		})
	}
}

// A reader of a file that is written in place sees it half written.
func TestWatcher_FileWrittenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	whole := keyfile.DER.Encode(testkey.Key(1))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.Write(whole[:100])
	expectErr(t, w, true)
	expect(t, w, 0)
	_, _ = f.Write(whole[100:])
	expect(t, w, 1)
}

func TestWatcher_DirectoryCreatedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	path := filepath.Join(dir, "rsa_key.der")
	makeDir(t, dir)
	publish(t, path, 0)
	w := open(t, path, 50*time.Millisecond)
	for n := range 4 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		expectErr(t, w, true)
		makeDir(t, dir)
		publish(t, path, n%2)
		expect(t, w, n%2)
		expectErr(t, w, false)
	}
}

func makeDir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// As after a remount: another directory is at the path, and the old one, still watched, has no events.
func TestWatcher_DirectoryReplaced(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "keys")
	path := filepath.Join(dir, "rsa_key.der")
	makeDir(t, dir)
	publish(t, path, 0)
	w := open(t, path, 50*time.Millisecond)
	other := filepath.Join(parent, "other")
	makeDir(t, other)
	publish(t, filepath.Join(other, "rsa_key.der"), 1)
	if err := os.Rename(dir, filepath.Join(parent, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, dir); err != nil {
		t.Fatal(err)
	}
	expect(t, w, 1)
	publish(t, path, 0)
	expect(t, w, 0)
}

// Kubernetes and others switch a symbolic link beside the file.
func TestWatcher_SymbolicLink(t *testing.T) {
	dir := t.TempDir()
	for n, sub := range []string{"a", "b"} {
		makeDir(t, filepath.Join(dir, sub))
		publish(t, filepath.Join(dir, sub, "rsa_key.der"), n)
	}
	path := filepath.Join(dir, "rsa_key.der")
	if err := os.Symlink("a/rsa_key.der", path); err != nil {
		t.Fatal(err)
	}
	w := open(t, path, noPoll)
	temp := filepath.Join(dir, "temp")
	if err := os.Symlink("b/rsa_key.der", temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
	expect(t, w, 1)
}

func TestWatcher_ManyChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	for n := range 500 {
		publish(t, path, n%3)
	}
	publish(t, path, 3)
	expect(t, w, 3)
}

func TestUpdated_OnlyForAnotherKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	synctest.Test(t, func(t *testing.T) {
		const interval = 5 * time.Millisecond
		publish(t, path, 0)
		w := open(t, path, interval, keywatch.WithoutEvents())
		publish(t, path, 0) // the same again
		if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*interval + interval/2) // of simulated time: until between two polls
		synctest.Wait()
		select {
		case <-w.Updated():
			t.Error("updated, and the key is the same")
		default:
		}
		publish(t, path, 1)
		<-w.Updated()
		expect(t, w, 1)
	})
}

func TestPoll_ReadsNow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link.der")
	publish(t, filepath.Join(dir, "rsa_key.der"), 0)
	elsewhere := filepath.Join(t.TempDir(), "rsa_key.der") // in a directory that is not watched
	publish(t, elsewhere, 0)
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	w := open(t, path, noPoll)
	publish(t, elsewhere, 1)
	w.Poll()
	expect(t, w, 1)
}

func TestClose_Twice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.pem")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	w.Close()
	w.Close()
	expect(t, w, 0)
}

func TestNew_NoReadPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read every file")
	}
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := keywatch.New(ctx, path, keywatch.WithoutEvents()); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("error %v", err)
		}
	})
}

func TestWatcher_PollsEveryFiveSeconds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	synctest.Test(t, func(t *testing.T) {
		w, err := keywatch.New(t.Context(), path, keywatch.WithoutEvents())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		publish(t, path, 1)
		published := time.Now()
		<-w.Updated()
		if took := time.Since(published); took > keywatch.DefaultPollInterval {
			t.Errorf("noticed after %v", took)
		}
		expect(t, w, 1)
	})
}
