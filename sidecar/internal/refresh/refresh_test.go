package refresh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is a source whose content a test sets. Every Fetch gives what is stored; the revision of the Environment source
// stands in for an unchanged one.
type stored struct {
	mu      sync.Mutex
	text    []byte
	err     error
	newer   bool // there is another key, whatever err is
	known   ssm.Revision
	slow    time.Duration // how long a fetch takes
	fetches []time.Time
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

func (s *stored) Fetch(ctx context.Context, wanted []ssm.Wanted) []ssm.Fetched {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches = append(s.fetches, time.Now())
	if s.err != nil {
		return []ssm.Fetched{{Key: wanted[0].Key, Err: s.err, Changed: s.newer}}
	}
	f := ssm.Environment{Text: secret.New(s.text)}.Fetch(ctx, []ssm.Wanted{{Key: wanted[0].Key, Known: s.known}})
	if m := f[0].Material; m != nil {
		s.known = m.Revision
	}
	return f
}

// parameterARN is the source of the key in most tests.
const parameterARN = "arn:aws:ssm:us-east-1:000000000000:parameter/app/key"

// handleOf is a handle of a parameter in us-east-1.
func handleOf(t testing.TB, parameter string) *ssm.Key {
	t.Helper()
	handle, err := ssm.NewKey(ssm.Parameters{Key: parameter})
	if err != nil {
		t.Fatal(err)
	}
	ssm.NewReaderOf(nil, "us-east-1", handle)
	return handle
}

// subscribed has a test notified of the outcomes.
func subscribed(notify func(Outcome)) []Subscriber { return []Subscriber{{"test", notify}} }

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
	f.Key = Key{Parameter: "/app/key", Handle: handleOf(t, parameterARN), Dir: keyDirectory(t.TempDir())}
	for _, c := range change {
		c(&o, &f.Key)
	}
	f.Dir = f.Key.Dir.(*publish.Publisher).Dir
	o.Keys = []Key{f.Key}
	f.Refresher = New(o)
	return f
}

// Refresh is one refresh of the one key.
func (f fixture) Refresh(ctx context.Context) error { return f.Refresher.RefreshOnce(ctx)[0].Err }

func keyDirectory(path string) *publish.Publisher {
	return publish.New(publish.Dir{Path: path, Formats: []keyfile.Format{keyfile.DER, keyfile.PEM}, Mode: 0o440})
}

// successor is the next sidecar on the same volume.
func (f fixture) successor(t *testing.T, change ...func(*Options, *Key)) fixture {
	t.Helper()
	volume := func(_ *Options, k *Key) { k.Dir = keyDirectory(f.Dir.Path) }
	return start(t, append([]func(*Options, *Key){volume}, change...)...)
}

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

// The least backoff, as schedule has it.
const leastBackoff = 250 * time.Millisecond

var outage = failure.New(keyfile.ClassNetwork, errors.New("no route"), "find one")

func TestRefresher_NewKeyReplacesPublishedKey(t *testing.T) {
	f := start(t)
	for n := range 2 {
		f.source.set(testkey.Key(n))
		if err := f.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := f.expect(t, testkey.Key(n))
		if s.PublishedAt.IsZero() || s.CheckedAt.IsZero() || s.LastError != nil || s.Source != parameterARN {
			t.Errorf("status %+v", s)
		}
	}
	if n := strings.Count(f.log.String(), "\n"); n != 2 {
		t.Errorf("two events made %d lines:\n%s", n, f.log)
	}
}

func TestRefresher_UnchangedKeyIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		_ = f.Refresh(t.Context())
		first := f.expect(t, testkey.Key(0))
		f.log.Reset()
		time.Sleep(time.Hour)
		if err := f.Refresh(t.Context()); err != nil {
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

func TestRefresher_FailureKeepsPublishedKey(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Refresh(t.Context())
	for name, spoil := range map[string]struct {
		do    func()
		class keyfile.ErrorClass
	}{
		"outage":  {func() { f.source.err = outage }, keyfile.ClassNetwork},
		"garbage": {func() { f.source.text, f.source.known, f.source.err = []byte("garbage"), ssm.Revision{}, nil }, keyfile.ClassUnreadableKey},
	} {
		spoil.do()
		for range 3 { // also when it is unchanged since it was refused
			if err := f.Refresh(t.Context()); failure.Class(err) != spoil.class {
				t.Errorf("%s: error %v", name, err)
			}
		}
		if s := f.expect(t, testkey.Key(0)); s.LastError == nil || s.LastError.Class != spoil.class {
			t.Errorf("%s: status %+v", name, s)
		}
	}
	f.source.set(testkey.Key(1))
	if err := f.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, testkey.Key(1))
	if !strings.Contains(f.log.String(), "recovered") {
		t.Errorf("no word of the recovery:\n%s", f.log)
	}
}

func TestRefresher_RestoresVanishedFiles(t *testing.T) {
	f := start(t)
	f.source.set(testkey.Key(0))
	_ = f.Refresh(t.Context())
	for _, err := range []error{nil, outage} {
		if err := os.Remove(filepath.Join(f.Dir.Path, "rsa_key.der")); err != nil {
			t.Fatal(err)
		}
		f.source.err = err
		_ = f.Refresh(t.Context())
		if err := f.Dir.Check(); err != nil {
			t.Error(err)
		}
	}
}

// A sidecar that cannot fetch does not put its old key in the place of what another one of its source has published.
func TestRefresher_KeepsNewerKeyOfItsSource(t *testing.T) {
	first := start(t)
	first.source.set(testkey.Key(0))
	_ = first.Refresh(t.Context())
	second := first.successor(t)
	second.source.set(testkey.Key(1))
	_ = second.Refresh(t.Context())
	first.source.err = outage
	for range 2 {
		_ = first.Refresh(t.Context())
		if s := first.expect(t, testkey.Key(1)); s.LastError == nil {
			t.Errorf("status %+v", s)
		}
	}
}

// While the first refresh takes its time, the key of another source makes no directory healthy.
func TestRun_KeyOfAnotherSourceIsNotHealthy(t *testing.T) {
	f := start(t, func(_ *Options, k *Key) {
		if err := k.Dir.Lock(t.Context(), "SECRET_KEY of another"); err != nil {
			t.Fatal(err)
		}
		leave(t, k, keyfile.Status{})
		s := keyfile.Status{Schema: keyfile.StatusSchema, Source: "SECRET_KEY of another", Fingerprint: testkey.Key(0).Fingerprint()}
		if err := k.Dir.Status(s); err != nil {
			t.Fatal(err)
		}
		k.Dir.Unlock()
	})
	if err := f.Dir.Health(); err != nil {
		t.Fatal(err)
	}
	f.source.err = outage
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer stop()
	for deadline := time.Now().Add(time.Minute); f.Dir.Health() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("healthy on the key of another source")
		}
	}
}

func TestRun_ReturnsErrorThatGiveUpAccepts(t *testing.T) {
	f := start(t, func(o *Options, _ *Key) {
		o.GiveUp = func(err error) bool { return failure.Class(err) == keyfile.ClassUnreadableKey }
	})
	f.source.text = []byte("garbage")
	if err := f.Run(t.Context()); failure.Class(err) != keyfile.ClassUnreadableKey || len(f.source.fetches) != 1 {
		t.Errorf("error %v after %d refreshes", err, len(f.source.fetches))
	}
}

func TestRefresher_TakesOverFromPredecessorOfSameSource(t *testing.T) {
	first := start(t)
	first.source.set(testkey.Key(0))
	_ = first.Refresh(t.Context())
	before := first.expect(t, testkey.Key(0))

	verified := false
	second := first.successor(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { verified = true; return nil }
	})
	second.source.err = outage
	_ = second.Refresh(t.Context())
	if s := second.expect(t, testkey.Key(0)); !s.PublishedAt.Equal(before.PublishedAt) || s.LastError == nil {
		t.Errorf("status was %+v and is %+v", before, s)
	}
	second.source.set(testkey.Key(0))
	if err := second.Refresh(t.Context()); err != nil || verified {
		t.Errorf("error %v; the key that is on disk was verified again: %v", err, verified)
	}
}

func TestVerify_RefusedKeyIsRetried(t *testing.T) {
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
	_ = f.Refresh(t.Context())
	f.source.set(testkey.Key(1))
	for range 3 {
		if err := f.Refresh(t.Context()); failure.Class(err) != keyfile.ClassSnowflake {
			t.Errorf("error %v", err)
		}
	}
	f.expect(t, testkey.Key(0))
	refusal = nil
	if err := f.Refresh(t.Context()); err != nil || asked != 5 {
		t.Errorf("error %v after asking %d times", err, asked)
	}
	f.expect(t, testkey.Key(1))
}

func TestRun_RefreshesAtJitteredInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		runFor(t, f, 10*time.Hour)
		if n := len(f.source.fetches); n < 110 || n > 133 {
			t.Errorf("%d refreshes in ten hours", n)
		}
		if first := f.source.fetches[1].Sub(f.source.fetches[0]); first > 5*time.Minute+leastBackoff {
			t.Errorf("the second refresh is %v after the first", first)
		}
		pauses := map[time.Duration]bool{}
		for i, at := range f.source.fetches[2:] {
			pause := at.Sub(f.source.fetches[i+1])
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

func TestRun_BackoffGrowsWithFailures(t *testing.T) {
	testenv.Slow(t)
	for name, tc := range map[string]struct {
		published    bool
		least, most  int // refreshes in an hour
		longestPause time.Duration
	}{
		"before the first key": {false, 150, 350, 30*time.Second + leastBackoff},
		"with a key on disk":   {true, 15, 30, 5*time.Minute + 30*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				if tc.published {
					f.source.set(testkey.Key(0))
					_ = f.Refresh(t.Context())
				}
				f.source.err = outage
				f.source.fetches = nil
				runFor(t, f, time.Hour)
				if n := len(f.source.fetches); n < tc.least || n > tc.most {
					t.Errorf("%d refreshes in an hour", n)
				}
				for i, at := range f.source.fetches[1:] {
					if pause := at.Sub(f.source.fetches[i]); pause < leastBackoff || pause > tc.longestPause {
						t.Errorf("pause %v", pause)
					}
				}
				if first := f.source.fetches[1].Sub(f.source.fetches[0]); first > time.Second+leastBackoff {
					t.Errorf("first pause %v", first)
				}
			})
		})
	}
}

// runs starts a Refresher, waits for its first refreshes, and gives what stops it. For synctest.
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

func TestRefreshNow_ManyCallsAreOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(o *Options, _ *Key) { o.Interval = 10_000 * time.Hour })
		f.source.set(testkey.Key(0))
		f.source.slow = time.Second
		stop := runs(t, f.Refresher)
		for range 5 { // while the first refresh fetches
			f.RefreshNow()
		}
		time.Sleep(time.Minute)
		stop()
		if n := len(f.source.fetches); n != 2 {
			t.Errorf("%d refreshes", n)
		}
	})
}

func TestLog_WrongPassphraseIsWarningAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.source.set(testkey.Key(0))
		_ = f.Refresh(t.Context())
		f.source.err = failure.New(keyfile.ClassPassphrase, errors.New("wrong"), "")
		_ = f.Refresh(t.Context())
		if !strings.Contains(f.log.String(), "level=WARN") || strings.Contains(f.log.String(), "level=ERROR") {
			t.Errorf("at first:\n%s", f.log)
		}
		time.Sleep(pairTimeout + time.Second)
		_ = f.Refresh(t.Context())
		if !strings.Contains(f.log.String(), "level=ERROR") {
			t.Errorf("after a while:\n%s", f.log)
		}
	})
}

func TestVerify_UnverifiedKeyIsRetried(t *testing.T) {
	refused := failure.New(keyfile.ClassSnowflake, errors.New("no"), "assign it")
	var answer error = outage
	asked := 0
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { asked++; return answer }
		k.PublishUnverified = true
	})
	f.source.set(testkey.Key(0))
	for _, answer = range []error{outage, outage, refused, refused, outage} {
		if err := f.Refresh(t.Context()); !errors.Is(err, answer) {
			t.Errorf("after %v the refresh gave %v", answer, err)
		}
		if s := f.expect(t, testkey.Key(0)); s.LastError == nil || s.LastError.Class != failure.Class(answer) {
			t.Errorf("after %v status has %v", answer, s.LastError)
		}
	}
	answer = nil
	for range 2 {
		if err := f.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if asked != 6 {
		t.Errorf("Snowflake was asked %d times, want once more after it was reached", asked)
	}

	answer = outage
	f.source.set(testkey.Key(1))
	if err := f.Refresh(t.Context()); !errors.Is(err, outage) {
		t.Errorf("a second key, with Snowflake out of reach: %v", err)
	}
	f.expect(t, testkey.Key(0))
}

func TestVerify_StopDoesNotPublishUnverifiedKey(t *testing.T) {
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(ctx context.Context, _ *keyfile.Key, _ decrypt.Login) error {
			<-ctx.Done()
			return failure.New(keyfile.ClassNetwork, ctx.Err(), "find a way")
		}
		k.PublishUnverified = true
	})
	f.source.set(testkey.Key(0))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := f.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if k := f.Dir.Published(); k != nil {
		t.Errorf("%v is on disk", k)
	}
}

// A published key may be one that Snowflake accepts, even if no refresh says so.
func TestVerify_UnverifiedKeyNeverReplacesPublishedKey(t *testing.T) {
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { return outage }
		k.PublishUnverified = true
		leave(t, k, keyfile.Status{Fingerprint: testkey.Key(0).Fingerprint(), PublishedAt: time.Now()})
	})
	f.source.set(testkey.Key(1))
	for range 2 {
		if err := f.Refresh(t.Context()); !errors.Is(err, outage) {
			t.Error(err)
		}
		f.expect(t, testkey.Key(0))
	}
}

func TestRefresher_KeyPublishedWhileStoppingIsRecorded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := start(t, func(_ *Options, k *Key) {
		k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { cancel(); return nil }
	})
	f.source.set(testkey.Key(0))
	if err := f.Refresh(ctx); err != nil {
		t.Error(err)
	}
	if s := f.expect(t, testkey.Key(0)); !refreshedSincePublished(s) {
		t.Errorf("status has %+v", s)
	}
}

// Snowflake may not have accepted a key whose sidecar was killed before it wrote status.json.
func TestVerify_KeyWithoutStatusIsVerified(t *testing.T) {
	refused := failure.New(keyfile.ClassSnowflake, errors.New("no"), "assign it")
	for _, tc := range []struct {
		name                 string
		number               int // of the key in status.json; there is no such file if the key was never published
		published, refreshed time.Time
		verified             int
		says                 error
	}{
		{"no status", 0, time.Time{}, time.Time{}, 1, refused},
		{"status of an earlier", 1, time.Now(), time.Now(), 1, refused},
		{"never refreshed since", 0, time.Now(), time.Time{}, 1, refused},
		{"refreshed since", 0, time.Now(), time.Now(), 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			f := start(t, func(_ *Options, k *Key) {
				k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { asked++; return refused }
				leave(t, k, keyfile.Status{Fingerprint: testkey.Key(tc.number).Fingerprint(), PublishedAt: tc.published, CheckedAt: tc.refreshed})
			})
			f.source.set(testkey.Key(0))
			if err := f.Refresh(t.Context()); !errors.Is(err, tc.says) || asked != tc.verified {
				t.Errorf("verified %d times: %v", asked, err)
			}
			if got := f.Dir.Published(); !got.Equal(testkey.Key(0)) {
				t.Errorf("on disk is %v", got)
			}
		})
	}
}

// leave puts key 0 on disk, and this status beside it if it says when a key was published.
func leave(t *testing.T, k *Key, status keyfile.Status) {
	t.Helper()
	if _, err := k.Dir.Key(testkey.Key(0)); err != nil {
		t.Fatal(err)
	}
	if status.PublishedAt.IsZero() {
		return
	}
	status.Schema, status.Source = keyfile.StatusSchema, parameterARN
	if err := k.Dir.Status(status); err != nil {
		t.Fatal(err)
	}
}
