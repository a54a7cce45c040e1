package refresh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// shelf is a source of several keys, some of which fail. It notes which were asked for together.
type shelf struct {
	mu    sync.Mutex
	fails map[int]error
	calls [][]int
	keys  []*ssm.Key
}

// change lets a test change or read it while it is in use.
func (s *shelf) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *shelf) Fetch(ctx context.Context, wanted []ssm.Wanted) []ssm.Fetched {
	s.mu.Lock()
	defer s.mu.Unlock()
	var asked []int
	fetched := make([]ssm.Fetched, len(wanted))
	for i, w := range wanted {
		number := slices.Index(s.keys, w.Key)
		asked = append(asked, number)
		if err := s.fails[number]; err != nil {
			fetched[i] = ssm.Fetched{Key: w.Key, Err: err}
			continue
		}
		e := ssm.Environment{Text: secret.New(keyfile.PEM.Encode(testkey.Key(0)))}
		fetched[i] = e.Fetch(ctx, []ssm.Wanted{{Key: w.Key, Known: w.Known}})[0]
	}
	s.calls = append(s.calls, asked)
	return fetched
}

func several(t *testing.T, s *shelf, n int, change ...func(int, *Key)) (*Refresher, *bytes.Buffer) {
	t.Helper()
	log, dir := new(bytes.Buffer), t.TempDir()
	o := Options{Source: s, Interval: 5 * time.Minute, Log: slog.New(slog.NewTextHandler(log, nil))}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("k%d", i))
	}
	for i, name := range names {
		k := Key{Name: name, Parameter: "/" + name, Handle: handleOf(t, "/"+name), Dir: publish.New(publish.Dir{
			Path: filepath.Join(dir, name), InParent: true, Siblings: names, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440,
		})}
		s.keys = append(s.keys, k.Handle)
		for _, c := range change {
			c(i, &k)
		}
		o.Keys = append(o.Keys, k)
	}
	return New(o), log
}

func TestRun_FailingKeyIsRetriedAlone(t *testing.T) {
	testenv.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: map[int]error{1: failure.New(keyfile.ClassNotFound, errors.New("none"), "")}}
		r, log := several(t, s, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = r.Run(ctx)
		good, bad := 0, 0
		for _, c := range s.calls {
			switch {
			case slices.Equal(c, []int{1}):
				bad++
			case slices.Contains(c, 0) && slices.Contains(c, 2):
				good++
			default:
				t.Errorf("asked for %v", c)
			}
		}
		if good < 11 || good > 14 || bad < 100 {
			t.Errorf("%d refreshes of the good keys, %d at the bad one in an hour", good, bad)
		}
		if text := log.String(); !strings.Contains(text, "key=k1") || strings.Count(text, "key published") != 2 {
			t.Errorf("log:\n%s", text)
		}

		// Once it is good it joins the others.
		s.fails, s.calls = nil, nil
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = r.Run(ctx)
		for _, c := range s.calls {
			if len(c) != 3 {
				t.Errorf("asked for %v", c)
			}
		}
	})
}

func TestRun_KeysThatFailTogetherAreRetriedTogether(t *testing.T) {
	testenv.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: map[int]error{0: outage, 1: outage, 2: outage}}
		r, _ := several(t, s, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = r.Run(ctx)
		for _, c := range s.calls {
			if len(c) != 3 {
				t.Errorf("asked for %v", c)
			}
		}
		if n := len(s.calls); n < 150 || n > 350 {
			t.Errorf("%d refreshes in an hour", n)
		}
	})
}

func TestRun_RecoveredKeyJoinsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: map[int]error{1: outage}}
		r, _ := several(t, s, 2)
		stop := runs(t, r)
		time.Sleep(100 * time.Second)
		s.change(func() { s.fails = nil })
		time.Sleep(time.Hour)
		s.change(func() { s.calls = nil })
		time.Sleep(time.Hour)
		s.change(func() {
			if n := len(s.calls); n < 10 || n > 14 {
				t.Errorf("%d refreshes in an hour: %v", n, s.calls)
			}
		})
		r.RefreshNow()
		synctest.Wait()
		s.change(func() {
			if last := s.calls[len(s.calls)-1]; len(last) != 2 {
				t.Errorf("fetched %v when everything was requested", last)
			}
		})
		stop()
	})
}

func TestRefreshOnce_SlowKeyDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	observed := make(chan Outcome, 2)
	r, _ := several(t, &shelf{}, 2, func(i int, k *Key) {
		if i == 0 {
			k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { <-release; return nil }
		}
	})
	r.Subscribers = subscribed(func(o Outcome) { observed <- o })
	done := make(chan struct{})
	go func() { r.RefreshOnce(t.Context()); close(done) }()
	if o := <-observed; o.Key != "k1" || !o.Published {
		t.Errorf("%+v", o)
	}
	if r.keys[0].Dir.Health() == nil || r.keys[1].Dir.Health() != nil {
		t.Error("it waited, or the other did not")
	}
	close(release)
	<-done
	if o := <-observed; o.Key != "k0" || !o.Published {
		t.Errorf("%+v", o)
	}
}

// The others are refreshed while one key waits, and that key is refreshed once more afterwards if that was requested.
func TestRun_SlowKeyDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &shelf{}
		r, _ := several(t, s, 2, func(i int, k *Key) {
			if i == 0 {
				k.Verify = func(context.Context, *keyfile.Key, decrypt.Login) error { <-release; return nil }
			}
		})
		// Nothing is due by the schedule while the test waits for what it requested.
		r.random = func(d time.Duration) time.Duration { return d / 2 }
		stop := runs(t, r)
		time.Sleep(2 * time.Second)
		r.RefreshNow()
		time.Sleep(time.Second)
		s.change(func() {
			if len(s.calls) != 2 || !slices.Equal(s.calls[1], []int{1}) {
				t.Errorf("asked for %v", s.calls)
			}
		})
		time.Sleep(time.Hour)
		s.change(func() {
			if n := len(s.calls); n < 12 || n > 16 {
				t.Errorf("%d refreshes in an hour: %v", n, s.calls)
			}
			s.calls = nil
		})
		close(release)
		time.Sleep(time.Second)
		s.change(func() {
			if len(s.calls) != 1 || !slices.Equal(s.calls[0], []int{0}) {
				t.Errorf("asked for %v when it no longer waits", s.calls)
			}
			s.calls = nil
		})
		time.Sleep(time.Hour)
		s.change(func() {
			for _, c := range s.calls {
				if len(c) != 2 {
					t.Errorf("asked for %v", c)
				}
			}
		})
		stop()
	})
}
