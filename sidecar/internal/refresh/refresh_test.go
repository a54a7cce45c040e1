package refresh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is a source whose content a test sets. Every Fetch gives what is stored; the revision of
// the Environment source stands in for an unchanged one.
type stored struct {
	mu    sync.Mutex
	text  []byte
	err   error
	newer bool // there is another key, whatever err is
	known ssm.Revision
	looks []time.Time
}

func (s *stored) set(k *keyfile.Key) {
	s.text, s.known, s.err = keyfile.PEM.Encode(k), ssm.Revision{}, nil
}

// change lets a test change it while it is in use.
func (s *stored) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *stored) Fetch(ctx context.Context, _ []ssm.Wanted) []ssm.Fetched {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, time.Now())
	if s.err != nil {
		return []ssm.Fetched{{Err: s.err, Changed: s.newer}}
	}
	f := ssm.Environment{Text: secret.New(s.text)}.Fetch(ctx, []ssm.Wanted{{Known: s.known}})
	if m := f[0].Material; m != nil {
		s.known = m.Revision
	}
	return f
}

// A fixture is a Refresher of one key.
type fixture struct {
	*Refresher
	Key
	Dir    publish.Dir
	source *stored
	log    *bytes.Buffer
}

func start(t *testing.T, change ...func(*Options, *Key)) fixture {
	t.Helper()
	f := fixture{source: &stored{}, log: new(bytes.Buffer)}
	o := Options{
		Source:   f.source,
		Interval: 5 * time.Minute,
		Log:      slog.New(slog.NewTextHandler(f.log, nil)),
	}
	f.Key = Key{
		Source: "/app/key",
		Dir:    publish.Dir{Path: t.TempDir(), Formats: []keyfile.Format{keyfile.DER, keyfile.PEM}, Mode: 0o440},
	}
	for _, c := range change {
		c(&o, &f.Key)
	}
	f.Dir = f.Key.Dir.(publish.Dir)
	o.Keys = []Key{f.Key}
	f.Refresher = New(o)
	return f
}

// Look is one look at the one key.
func (f fixture) Look(ctx context.Context) error { return f.Refresher.Look(ctx)[0].Err }

func (f fixture) expect(t *testing.T, k *keyfile.Key) keyfile.Status {
	t.Helper()
	if got := f.Dir.Published(); !got.Equal(k) {
		t.Errorf("on disk is %v, want %v", got, k)
	}
	s, err := keyfile.ReadStatus(f.Dir.Path)
	if err != nil {
		t.Fatal(err)
	}
	if k != nil && s.Fingerprint != k.Fingerprint() {
		t.Errorf("status says %s, want %v", s.Fingerprint, k)
	}
	return s
}

var outage = failure.New(keyfile.ClassNetwork, errors.New("no route"), "find one")

func TestAKeyIsPublishedAndAnotherReplacesIt(t *testing.T) {
	f := start(t)
	for n := range 2 {
		f.source.set(testkey.Key(n))
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := f.expect(t, testkey.Key(n))
		if s.PublishedAt.IsZero() || s.CheckedAt.IsZero() || s.LastError != nil || s.Source != "/app/key" {
			t.Errorf("status %+v", s)
		}
	}
	if n := strings.Count(f.log.String(), "\n"); n != 2 {
		t.Errorf("two events made %d lines:\n%s", n, f.log)
	}
}

func TestNothingNewIsSilentAndShowsInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		_ = f.Look(t.Context())
		first := f.expect(t, testkey.Key(0))
		f.log.Reset()
		time.Sleep(time.Hour)
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := f.expect(t, testkey.Key(0))
		if !s.PublishedAt.Equal(first.PublishedAt) || s.CheckedAt.Sub(first.CheckedAt) != time.Hour {
			t.Errorf("status was %+v and is %+v", first, s)
		}
		if f.log.Len() > 0 {
			t.Errorf("logged:\n%s", f.log)
		}
	})
}

func TestABadKeyOrAnOutageNeverReplacesAGoodKey(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Look(t.Context())
	for name, spoil := range map[string]struct {
		do    func()
		class keyfile.ErrorClass
	}{
		"outage":  {func() { f.source.err = outage }, keyfile.ClassNetwork},
		"garbage": {func() { f.source.text, f.source.known, f.source.err = []byte("garbage"), ssm.Revision{}, nil }, keyfile.ClassUnreadableKey},
	} {
		spoil.do()
		for range 3 { // also when it is unchanged since it was refused
			if err := f.Look(t.Context()); failure.Class(err) != spoil.class {
				t.Errorf("%s: error %v", name, err)
			}
		}
		if s := f.expect(t, testkey.Key(0)); s.LastError == nil || s.LastError.Class != spoil.class {
			t.Errorf("%s: status %+v", name, s)
		}
	}
	f.source.set(testkey.Key(1))
	if err := f.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, testkey.Key(1))
	if !strings.Contains(f.log.String(), "recovered") {
		t.Errorf("no word of the recovery:\n%s", f.log)
	}
}

func TestFilesThatWentAreRestoredAlsoDuringAnOutage(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Look(t.Context())
	for _, err := range []error{nil, outage} {
		if err := os.Remove(filepath.Join(f.Dir.Path, "rsa_key.der")); err != nil {
			t.Fatal(err)
		}
		f.source.err = err
		_ = f.Look(t.Context())
		if err := f.Dir.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestRunGivesUpWhenThereIsNoUse(t *testing.T) {
	f := start(t, func(o *Options, _ *Key) {
		o.GiveUp = func(err error) bool { return failure.Class(err) == keyfile.ClassUnreadableKey }
	})
	f.source.text = []byte("garbage")
	if err := f.Run(t.Context()); failure.Class(err) != keyfile.ClassUnreadableKey || len(f.source.looks) != 1 {
		t.Errorf("error %v after %d looks", err, len(f.source.looks))
	}
}

func TestTheVersionOfAnotherParameterIsForgotten(t *testing.T) {
	first := start(t)
	first.source.set(testkey.Key(0))
	_ = first.Look(t.Context())
	status := first.expect(t, testkey.Key(0))
	status.Version = "7"
	if err := first.Dir.Status(status); err != nil {
		t.Fatal(err)
	}
	second := start(t, func(_ *Options, k *Key) { k.Dir, k.Source = first.Dir, "/other/key" })
	second.source.err = outage
	_ = second.Look(t.Context())
	if s := second.expect(t, testkey.Key(0)); s.Version != "" || s.Source != "/other/key" {
		t.Errorf("status %+v", s)
	}
}

func TestASuccessorTakesOverWhatIsOnDisk(t *testing.T) {
	first := start(t)
	first.source.set(testkey.Key(0))
	_ = first.Look(t.Context())
	before := first.expect(t, testkey.Key(0))

	verified := false
	second := start(t, func(_ *Options, k *Key) {
		k.Dir = first.Dir
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { verified = true; return nil }
	})
	second.source.err = outage
	_ = second.Look(t.Context())
	if s := second.expect(t, testkey.Key(0)); !s.PublishedAt.Equal(before.PublishedAt) || s.LastError == nil {
		t.Errorf("status was %+v and is %+v", before, s)
	}
	second.source.set(testkey.Key(0))
	if err := second.Look(t.Context()); err != nil || verified {
		t.Errorf("error %v; the key that is on disk was verified again: %v", err, verified)
	}
}

func TestARefusedKeyIsAskedForAgainUntilItIsAccepted(t *testing.T) {
	refusal := error(failure.New(keyfile.ClassSnowflake, errors.New("394304"), "assign it"))
	asked := 0
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(_ context.Context, newest *keyfile.Key, _ decrypt.Login) error {
			asked++
			if newest.Equal(testkey.Key(1)) {
				return refusal
			}
			return nil
		}
	})
	f.source.set(testkey.Key(0))
	_ = f.Look(t.Context())
	f.source.set(testkey.Key(1))
	for range 3 {
		if err := f.Look(t.Context()); failure.Class(err) != keyfile.ClassSnowflake {
			t.Errorf("error %v", err)
		}
	}
	f.expect(t, testkey.Key(0))
	refusal = nil
	if err := f.Look(t.Context()); err != nil || asked != 5 {
		t.Errorf("error %v after asking %d times", err, asked)
	}
	f.expect(t, testkey.Key(1))
}

func TestLooksComeAtTheIntervalGiveOrTakeATenth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.looks); n < 110 || n > 133 {
			t.Errorf("%d looks in ten hours", n)
		}
		if first := f.source.looks[1].Sub(f.source.looks[0]); first > 5*time.Minute+leastPause {
			t.Errorf("the second look is %v after the first", first)
		}
		pauses := map[time.Duration]bool{}
		for i, at := range f.source.looks[2:] {
			pause := at.Sub(f.source.looks[i+1])
			pauses[pause] = true
			if pause < 270*time.Second || pause > 330*time.Second {
				t.Errorf("pause %v", pause)
			}
		}
		if len(pauses) < 50 {
			t.Errorf("%d different pauses: not jittered", len(pauses))
		}
	})
}

func TestFailuresAreFollowedByGrowingPauses(t *testing.T) {
	for name, tc := range map[string]struct {
		published    bool
		least, most  int // looks in an hour
		longestPause time.Duration
	}{
		"before the first key": {false, 150, 350, 30*time.Second + leastPause},
		"with a key on disk":   {true, 15, 30, 5*time.Minute + 30*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				if tc.published {
					f.source.set(testkey.Key(0))
					_ = f.Look(t.Context())
				}
				f.source.err = outage
				f.source.looks = nil
				runFor(t, f, time.Hour)
				if n := len(f.source.looks); n < tc.least || n > tc.most {
					t.Errorf("%d looks in an hour", n)
				}
				for i, at := range f.source.looks[1:] {
					if pause := at.Sub(f.source.looks[i]); pause < leastPause || pause > tc.longestPause {
						t.Errorf("pause %v", pause)
					}
				}
				if first := f.source.looks[1].Sub(f.source.looks[0]); first > firstPause+leastPause {
					t.Errorf("first pause %v", first)
				}
			})
		})
	}
}

// runs has a Refresher run until stop, its first looks being over. For synctest.
func runs(t *testing.T, r *Refresher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = r.Run(ctx); close(done) }()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

func runFor(t *testing.T, f fixture, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_ = f.Run(ctx)
}

func TestNowLooksNowAndManyRequestsAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		stop := runs(t, f.Refresher)
		for range 5 {
			f.Now()
		}
		synctest.Wait()
		if n := len(f.source.looks); n < 2 || n > 3 {
			t.Errorf("%d looks", n)
		}
		stop()
	})
}

func TestAPassphraseThatDoesNotFitYetIsAWarningAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		_ = f.Look(t.Context())
		f.source.err = failure.New(keyfile.ClassPassphrase, errors.New("wrong"), "")
		_ = f.Look(t.Context())
		if !strings.Contains(f.log.String(), "level=WARN") || strings.Contains(f.log.String(), "level=ERROR") {
			t.Errorf("at first:\n%s", f.log)
		}
		time.Sleep(grace + time.Second)
		_ = f.Look(t.Context())
		if !strings.Contains(f.log.String(), "level=ERROR") {
			t.Errorf("after a while:\n%s", f.log)
		}
	})
}

func TestTheSocketsAskAndAreRateLimited(t *testing.T) {
	var asked atomic.Int64
	requests := NewRequests(func() { asked.Add(1) }, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { requests.Run(ctx) })
	defer running.Wait()
	defer cancel()
	s := NewSockets(requests.Ask)
	defer s.Close()
	for range 5 {
		dir := t.TempDir()
		if _, err := s.Listen(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, keyfile.SocketName)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
			t.Errorf("%v, %v", info, err)
		}
		for range 10 {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("whatever"))
			c.Close()
		}
	}
	time.Sleep(200 * time.Millisecond)
	if n := asked.Load(); n != 1 {
		t.Errorf("50 connections to 5 sockets asked %d times", n)
	}
}

func TestTheSocketComesBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, keyfile.SocketName)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close() // as a killed predecessor leaves it

	asked := make(chan struct{}, 8)
	s := NewSockets(func() { asked <- struct{}{} })
	for _, prepare := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(path) }, // as it goes with a volume
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Listen(dir); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	<-asked
	s.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestWhatIsNoSocketIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, keyfile.SocketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSockets(func() {})
	defer s.Close()
	if changed, err := s.Listen(dir); err == nil || !changed {
		t.Errorf("error %v, changed %v", err, changed)
	}
	if changed, err := s.Listen(dir); err == nil || changed {
		t.Errorf("the same error again: %v, changed %v", err, changed)
	}
	if data, _ := os.ReadFile(path); string(data) != "mine" {
		t.Errorf("the file has %q", data)
	}
}

func TestAKeyThatSnowflakeCouldNotBeAskedAboutIsAskedAboutUntilItAnswers(t *testing.T) {
	refused := failure.New(keyfile.ClassSnowflake, errors.New("no"), "assign it")
	var answer error = outage
	asked := 0
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { asked++; return answer }
		k.PublishUnproven = true
	})
	f.source.set(testkey.Key(0))
	for _, answer = range []error{outage, outage, refused, refused, outage} {
		if err := f.Look(t.Context()); !errors.Is(err, answer) {
			t.Errorf("after %v the look gave %v", answer, err)
		}
		if s := f.expect(t, testkey.Key(0)); s.LastError == nil || s.LastError.Class != failure.Class(answer) {
			t.Errorf("after %v status has %v", answer, s.LastError)
		}
	}
	answer = nil
	for range 2 {
		if err := f.Look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if asked != 6 {
		t.Errorf("Snowflake was asked %d times, want once more after it was reached", asked)
	}

	answer = outage
	f.source.set(testkey.Key(1))
	if err := f.Look(t.Context()); !errors.Is(err, outage) {
		t.Errorf("a second key, with Snowflake out of reach: %v", err)
	}
	f.expect(t, testkey.Key(0))
}

func TestAnEndIsNoReasonToPublishAKeyThatSnowflakeWasNotAskedAbout(t *testing.T) {
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(ctx context.Context, _ *keyfile.Key, _ decrypt.Login) error {
			<-ctx.Done()
			return failure.New(keyfile.ClassNetwork, ctx.Err(), "find a way")
		}
		k.PublishUnproven = true
	})
	f.source.set(testkey.Key(0))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := f.Look(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if k := f.Dir.Published(); k != nil {
		t.Errorf("%v is on disk", k)
	}
}

// A key on disk that nothing is known of may be one that Snowflake accepts.
func TestNoKeyTakesThePlaceOfAnotherUnasked(t *testing.T) {
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { return outage }
		k.PublishUnproven = true
		leave(t, k, keyfile.Status{})
	})
	f.source.set(testkey.Key(1))
	for range 2 {
		if err := f.Look(t.Context()); !errors.Is(err, outage) {
			t.Error(err)
		}
		f.expect(t, testkey.Key(0))
	}
}

// Told to stop once a key was published, the sidecar notes that it was.
func TestAKeyThatWasPublishedAtTheEndIsNoted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { cancel(); return nil }
	})
	f.source.set(testkey.Key(0))
	if err := f.Look(ctx); err != nil {
		t.Error(err)
	}
	if s := f.expect(t, testkey.Key(0)); !lookedSincePublished(s) {
		t.Errorf("status has %+v", s)
	}
}

// A sidecar killed between the key and the note about it leaves a key that Snowflake may not have been asked about.
func TestAKeyWithoutANoteIsAskedAbout(t *testing.T) {
	refused := failure.New(keyfile.ClassSnowflake, errors.New("no"), "assign it")
	for _, tc := range []struct {
		name              string
		number            int // of the key in the note; there is none if it was never published
		published, looked time.Time
		asked             int
		says              error
	}{
		{"no status", 0, time.Time{}, time.Time{}, 1, refused},
		{"status of an earlier", 1, time.Now(), time.Now(), 1, refused},
		{"never looked since", 0, time.Now(), time.Time{}, 1, refused},
		{"the note is there", 0, time.Now(), time.Now(), 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			f := start(t, func(_ *Options, k *Key) {
				k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { asked++; return refused }
				leave(t, k, keyfile.Status{Fingerprint: testkey.Key(tc.number).Fingerprint(), PublishedAt: tc.published, CheckedAt: tc.looked})
			})
			f.source.set(testkey.Key(0))
			if err := f.Look(t.Context()); !errors.Is(err, tc.says) || asked != tc.asked {
				t.Errorf("asked %d times: %v", asked, err)
			}
			f.expect(t, testkey.Key(0))
		})
	}
}

// leave has key 0 on disk, and a note beside it if it says when a key was published.
func leave(t *testing.T, k *Key, note keyfile.Status) {
	t.Helper()
	if _, err := k.Dir.Key(testkey.Key(0)); err != nil {
		t.Fatal(err)
	}
	if note.PublishedAt.IsZero() {
		return
	}
	note.Schema, note.Source = keyfile.StatusSchema, k.Source
	if err := k.Dir.Status(note); err != nil {
		t.Fatal(err)
	}
}

// Two tasks overlap: the first one's end leaves the socket of the second.
func TestTheSocketOfASuccessorStays(t *testing.T) {
	dir := t.TempDir()
	first := NewSockets(func() {})
	if _, err := first.Listen(dir); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	second := NewSockets(func() { asked <- struct{}{} })
	defer second.Close()
	if _, err := second.Listen(dir); err != nil {
		t.Fatal(err)
	}
	first.Close()
	c, err := net.Dial("unix", filepath.Join(dir, keyfile.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-asked
}
