package keywatch_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/keywatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait: long enough for a loaded machine, and never waited out in success.
const patience = time.Minute

// noPoll is an interval that does not come: only events count.
const noPoll = time.Hour

func open(t *testing.T, path string, poll time.Duration, opts ...keywatch.Option) *keywatch.Watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := keywatch.New(ctx, path, append(opts, keywatch.WithPollInterval(poll))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// replace is what a publisher does.
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
	deadline := time.After(patience)
	for !w.Key().Equal(testkey.Key(n)) {
		select {
		case <-w.Updated():
		case <-deadline:
			t.Fatalf("key is %v, want %v; %v", w.Key(), testkey.Key(n), w.Err())
		}
	}
}

func expectErr(t *testing.T, w *keywatch.Watcher, want bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); (w.Err() != nil) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("error %v", w.Err())
		}
	}
}

func TestAReplacedFileIsNoticedByItsEvent(t *testing.T) {
	for _, f := range keyfile.Formats {
		path := filepath.Join(t.TempDir(), f.FileName())
		publish(t, path, 0)
		w := open(t, path, noPoll)
		for n := range 4 {
			publish(t, path, n%2)
			expect(t, w, n%2)
		}
	}
}

// While a reader has the old file open, a watch on the file itself would say nothing.
func TestAReplacedFileIsNoticedWhileAReaderHoldsTheOldOne(t *testing.T) {
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

func TestTheFirstKeyIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "rsa_key.der")
	go func() {
		time.Sleep(50 * time.Millisecond)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Error(err)
		}
		publish(t, path, 0)
	}()
	expect(t, open(t, path, 20*time.Millisecond), 0)
}

func TestTheWaitEndsWithItsContextAndSaysWhatWasWrong(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.der")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "rsa_key.der"): "no such file",
		garbage:                           "not a PKCS#8 private key",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := keywatch.New(ctx, path)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("%s: error %v lacks %q", path, err, want)
		}
	}
}

func TestTheContextBoundsOnlyTheWait(t *testing.T) {
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

func TestABadFileIsNotAdopted(t *testing.T) {
	whole := keyfile.DER.Encode(testkey.Key(1))
	for name, spoil := range map[string]func(t *testing.T, path string){
		"removed":   func(t *testing.T, path string) { _ = os.Remove(path) },
		"empty":     func(t *testing.T, path string) { replace(t, path, nil) },
		"half":      func(t *testing.T, path string) { replace(t, path, whole[:len(whole)/2]) },
		"directory": func(t *testing.T, path string) { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "rsa_key.der")
			publish(t, path, 0)
			var log bytes.Buffer
			w := open(t, path, 10*time.Millisecond, keywatch.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			spoil(t, path)
			expectErr(t, w, true)
			time.Sleep(50 * time.Millisecond) // several polls
			expect(t, w, 0)
			_ = os.Remove(path)
			publish(t, path, 0)
			expectErr(t, w, false)
			publish(t, path, 1)
			expect(t, w, 1)
			w.Close()
			if n := strings.Count(log.String(), "not adopted"); n < 1 || n > 2 {
				t.Errorf("%d complaints about one problem:\n%s", n, &log)
			}
		})
	}
}

// A writer that writes in place shows its file half written: the half is not adopted, the whole is.
func TestAFileWrittenInPlaceIsAdoptedWhenItIsWhole(t *testing.T) {
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

func TestADirectoryThatIsRemovedAndMadeAgain(t *testing.T) {
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

// As after a remount: another directory stands at the path, and the old one, still watched, is silent.
func TestADirectoryThatIsReplaced(t *testing.T) {
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

// Kubernetes, and others, switch a symbolic link beside the file.
func TestASymbolicLinkThatIsSwitched(t *testing.T) {
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

func TestManyChangesEndOnTheLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	for n := range 500 {
		publish(t, path, n%3)
	}
	publish(t, path, 3)
	expect(t, w, 3)
}

func TestUpdatedComesOnlyWithAnotherKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	w := open(t, path, 5*time.Millisecond)
	select {
	case <-w.Updated(): // of the first key, if nobody took it
	default:
	}
	publish(t, path, 0) // the same again
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Updated():
		t.Error("updated, and the key is the same")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestCheckLooksNow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link.der")
	publish(t, filepath.Join(dir, "rsa_key.der"), 0)
	elsewhere := filepath.Join(t.TempDir(), "rsa_key.der") // where no watch is
	publish(t, elsewhere, 0)
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	w := open(t, path, noPoll)
	publish(t, elsewhere, 1)
	w.Check()
	expect(t, w, 1)
}

func TestCloseTwiceAndKeyAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rsa_key.pem")
	publish(t, path, 0)
	w := open(t, path, noPoll)
	w.Close()
	w.Close()
	expect(t, w, 0)
}

func TestAFileThatMayNotBeRead(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read every file")
	}
	path := filepath.Join(t.TempDir(), "rsa_key.der")
	publish(t, path, 0)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := keywatch.New(ctx, path); err == nil || !strings.Contains(err.Error(), fs.ErrPermission.Error()) {
		t.Errorf("error %v", err)
	}
}

func TestTheFileIsLookedAtEveryFiveSecondsAllTheSame(t *testing.T) {
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
