//go:build unix

package publish_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

const (
	thisSource  = "arn:aws:ssm:us-east-1:111111111111:parameter/app/key"
	otherSource = "arn:aws:ssm:eu-west-1:111111111111:parameter/app/key" // the same name in another Region
)

// another is a second sidecar's Publisher of the same directory.
func another(d *publish.Publisher, formats ...keyfile.Format) *publish.Publisher {
	second := d.Dir
	if len(formats) > 0 {
		second.Formats = formats
	}
	return publish.New(second)
}

func lock(t *testing.T, d *publish.Publisher, source string) {
	t.Helper()
	if err := d.Lock(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	if why := d.Unlocked(); why != "" {
		t.Fatal(why)
	}
}

func refused(t *testing.T, d *publish.Publisher, source string) error {
	t.Helper()
	err := d.Lock(t.Context(), source)
	if failure.Class(err) != keyfile.ClassLocked {
		t.Fatalf("error %v", err)
	}
	return err
}

// published is a directory in which a sidecar publishes key 0 of thisSource.
func published(t *testing.T) *publish.Publisher {
	t.Helper()
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	status(t, d, thisSource, testkey.Key(0))
	return d
}

func status(t *testing.T, d *publish.Publisher, source string, k *keyfile.Key) {
	t.Helper()
	s := keyfile.Status{Schema: keyfile.StatusSchema, Source: source}
	if k != nil {
		s.Fingerprint = k.Fingerprint()
	}
	if err := d.Status(s); err != nil {
		t.Fatal(err)
	}
}

func TestLock_OneSourceAtATime(t *testing.T) {
	d := dir(t)
	if says, _ := d.LockProblem(); says != "" {
		t.Error(says)
	}
	if d.Locked() {
		t.Error("locked without a sidecar")
	}
	lock(t, d, thisSource)
	lock(t, d, thisSource)
	status(t, d, thisSource, nil)
	for range 2 {
		if !d.Locked() {
			t.Error("the lock does not show")
		}
	}
	if err := refused(t, another(d), otherSource); !strings.Contains(err.Error(), thisSource) || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("error %v", err)
	}
	lock(t, another(d), thisSource)
	if info, err := os.Stat(filepath.Join(d.Path, publish.LockName)); err != nil || info.Mode() != 0o200 || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// While AWS has not said what the source is, nothing is locked.
func TestLock_UnknownSource(t *testing.T) {
	d := dir(t)
	if err := d.Lock(t.Context(), ""); err != nil || d.Locked() {
		t.Fatal(err)
	}
	second := another(d)
	lock(t, second, otherSource)
	refused(t, d, "")
	refused(t, d, thisSource)
	lock(t, second, otherSource)
}

func TestLock_FollowsTheDirectory(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	if err := os.Remove(filepath.Join(d.Path, publish.LockName)); err != nil { // as a volume that is mounted anew has none
		t.Fatal(err)
	}
	lock(t, d, thisSource)
	refused(t, another(d), otherSource)
}

// The status of a sidecar that publishes is not another's to write.
func TestLock_RefusedLeavesTheStatus(t *testing.T) {
	d := published(t)
	second := another(d)
	refused(t, second, otherSource)
	status(t, second, otherSource, nil)
	if s, err := keyfile.ReadStatus(d.Path); err != nil || s.Source != thisSource {
		t.Errorf("%+v, %v", s, err)
	}
	if err := publish.Health(d.Path); err != nil {
		t.Errorf("a task that waits for another to end: %v", err)
	}
}

func TestHealth_RefusalOfAnotherContainerHidesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := published(t)
		second := another(d)
		refused(t, second, otherSource)
		time.Sleep(2 * time.Minute)
		refused(t, second, otherSource)
		ofAnother := `{"source":"x","since":"2000-01-01T00:00:00Z","pid":1,"started":"1"}`
		if err := os.WriteFile(filepath.Join(d.Path, publish.RefusedPrefix+"1-1.json"), []byte(ofAnother), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := publish.Health(d.Path); err == nil || !strings.Contains(err.Error(), otherSource) {
			t.Errorf("health: %v", err)
		}
	})
}

func TestHealth_FailsWhenALockIsRefusedForLong(t *testing.T) {
	testenv.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		d := published(t)
		second := another(d)
		for range 10 {
			refused(t, second, otherSource)
			if err := publish.Health(d.Path); err != nil {
				t.Errorf("a task that waits for another to end: %v", err)
			}
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute)
		if err := publish.Health(d.Path); err == nil || !strings.Contains(err.Error(), otherSource) {
			t.Errorf("health: %v", err)
		}
		all, err := filepath.Glob(filepath.Join(d.Path, publish.RefusedPrefix+"*"))
		if err != nil || len(all) == 0 {
			t.Fatal("no sidecar is refused", err)
		}
		path := all[0]
		note, err := os.ReadFile(path)
		if err != nil || os.Remove(path) != nil {
			t.Fatal(err)
		}
		ofAnother := strings.Replace(string(note), `"started":"`, `"started":"1`, 1) // a process that has ended, or one of another container
		if err := os.WriteFile(path, []byte(ofAnother), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := publish.Health(d.Path); err != nil {
			t.Errorf("health: %v", err)
		}
		if err := os.Remove(path); err != nil || os.WriteFile(path, note, 0o444) != nil {
			t.Fatal(err)
		}
		d.Unlock()
		lock(t, second, otherSource)
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	})
}

func TestHealth_FailsWhenAProgramHoldsTheLock(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	s := keyfile.Status{Schema: keyfile.StatusSchema, Source: thisSource, Fingerprint: testkey.Key(0).Fingerprint()}
	for since, healthy := range map[time.Duration]bool{30 * time.Second: true, time.Hour: false} {
		s.LastError = &keyfile.LastError{Class: keyfile.ClassLocked, At: time.Now(), Since: time.Now().Add(-since)}
		if err := d.Status(s); err != nil {
			t.Fatal(err)
		}
		if err := publish.Health(d.Path); (err == nil) != healthy {
			t.Errorf("refused for %v: %v", since, err)
		}
	}
}

// No sidecar takes over what another source left.
func TestPrevious_IsOfTheSameSource(t *testing.T) {
	d := dir(t)
	put(t, d, testkey.Key(0))
	same := func(source string) bool { return source == thisSource }
	if k, s := d.Previous(same); k != nil || s.Fingerprint != "" {
		t.Errorf("without a status: %v, %+v", k, s)
	}
	status(t, d, thisSource, testkey.Key(0))
	if k, s := d.Previous(same); !k.Equal(testkey.Key(0)) || s.Source != thisSource {
		t.Errorf("%v, %+v", k, s)
	}
	if k, s := d.Previous(func(source string) bool { return source == otherSource }); k != nil || s.Fingerprint != "" {
		t.Errorf("another source's: %v, %+v", k, s)
	}
	put(t, d, testkey.Key(1)) // its sidecar was killed before it could write the status
	if k, _ := d.Previous(same); k != nil {
		t.Errorf("a key that the status does not name: %v", k)
	}
}
