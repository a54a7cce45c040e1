//go:build unix

package publish_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

func of(source string) func(string) bool {
	return func(written string) bool { return written == source }
}

// A sidecar that is killed after its files and before its status has left a key of its own.
func TestPrevious_KilledBetweenKeyAndStatus(t *testing.T) {
	for name, first := range map[string]bool{"first key": true, "later key": false} {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			lock(t, d, thisSource)
			if !first {
				put(t, d, testkey.Key(0))
				status(t, d, thisSource, testkey.Key(0))
			}
			put(t, d, testkey.Key(1))
			d.Unlock()
			key, s := another(d).Previous(of(thisSource))
			if key == nil || !key.Equal(testkey.Key(1)) || s.Source != thisSource || s.Fingerprint != testkey.Key(1).Fingerprint() || !s.CheckedAt.IsZero() {
				t.Errorf("%v, %+v", key, s)
			}
			if key, _ := another(d).Previous(of(otherSource)); key != nil {
				t.Error("it counts for another source")
			}
			status(t, d, thisSource, testkey.Key(1))
			if s, err := keyfile.ReadStatus(d.Path); err != nil || s.Publishing != nil {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// A sidecar that announces the next key and is killed leaves the one whose files are there.
func TestPrevious_KilledTwice(t *testing.T) {
	d := published(t)
	put(t, d, testkey.Key(1))
	s, err := keyfile.ReadStatus(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, testkey.Key(2)) // and its files are taken back: it was killed before the first rename
	announced, err := keyfile.ReadStatus(d.Path)
	if err != nil || announced.Fingerprint != testkey.Key(1).Fingerprint() || announced.Publishing.Fingerprint != testkey.Key(2).Fingerprint() {
		t.Errorf("after %+v: %+v, %v", s, announced, err)
	}
	for _, f := range keyfile.Formats {
		path := filepath.Join(d.Path, f.FileName())
		if err := os.Remove(path); err != nil || os.WriteFile(path, f.Encode(testkey.Key(1)), 0o440) != nil {
			t.Fatal(err)
		}
	}
	if key, _ := another(d).Previous(of(thisSource)); key == nil || !key.Equal(testkey.Key(1)) {
		t.Errorf("%v counts", key)
	}
}

// A key of another source that a killed sidecar has left beside one's own status is not one's own.
func TestPrevious_KeyOfAnotherSourceBesideTheStatus(t *testing.T) {
	d := published(t)
	d.Unlock()
	second := another(d)
	lock(t, second, otherSource)
	put(t, second, testkey.Key(1))
	if key, _ := another(d).Previous(of(thisSource)); key != nil {
		t.Errorf("%v counts", key)
	}
}

// The formats of a predecessor may be others.
func TestPrevious_ReadsEveryFormat(t *testing.T) {
	d := another(dir(t), keyfile.PEM)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	status(t, d, thisSource, testkey.Key(0))
	if key, _ := another(d, keyfile.DER).Previous(of(thisSource)); key == nil {
		t.Error("the key does not count")
	}
}

func TestNewer_IsPublishedByASidecarOfTheSource(t *testing.T) {
	d := published(t)
	if key, _ := d.Newer(testkey.Key(0)); key != nil {
		t.Errorf("%v is newer than itself", key)
	}
	second := another(d)
	lock(t, second, thisSource)
	put(t, second, testkey.Key(1))
	status(t, second, thisSource, testkey.Key(1))
	if key, s := d.Newer(testkey.Key(0)); key == nil || !key.Equal(testkey.Key(1)) || s.Fingerprint != key.Fingerprint() {
		t.Errorf("%v, %+v", key, s)
	}
}

func TestDisown_KeyOfAnotherSourceIsNotHealthy(t *testing.T) {
	d := dir(t)
	lock(t, d, otherSource)
	put(t, d, testkey.Key(0))
	status(t, d, otherSource, testkey.Key(0))
	second := another(d)
	second.Disown()
	if err := publish.Health(d.Path); err != nil {
		t.Errorf("the key of a sidecar that lives: %v", err)
	}
	d.Unlock()
	second.Disown()
	if err := publish.Health(d.Path); err == nil {
		t.Error("healthy on another source's key")
	}
	if key := d.Published(); key == nil {
		t.Error("the key is gone")
	}
}

func TestKey_FormatsOfAnotherSidecarStay(t *testing.T) {
	publishBoth := func(t *testing.T, one, two *publish.Publisher) {
		t.Helper()
		for range 2 {
			for _, d := range []*publish.Publisher{one, two} {
				if err := d.Lock(t.Context(), thisSource); err != nil {
					t.Fatal(err)
				}
				put(t, d, testkey.Key(0))
				status(t, d, thisSource, testkey.Key(0))
			}
		}
	}
	t.Run("without locks", func(t *testing.T) {
		d := dir(t)
		if err := os.Mkdir(filepath.Join(d.Path, publish.LockName), 0o700); err != nil {
			t.Fatal(err)
		}

		one, two := another(d, keyfile.DER), another(d, keyfile.PEM)
		publishBoth(t, one, two)
		if err := publish.Health(d.Path); err != nil || len(d.Published().Fingerprint()) == 0 {
			t.Error(err)
		}
		if got := names(t, d); got != "rsa_key.der rsa_key.pem sidecar.lock status.json" {
			t.Errorf("the directory has %s", got)
		}
	})
	t.Run("that has just ended", func(t *testing.T) {
		d := dir(t)
		one, two := another(d, keyfile.DER), another(d, keyfile.PEM)
		publishBoth(t, one, two)
		two.Unlock()
		put(t, one, testkey.Key(0))
		if got := names(t, d); got != "rsa_key.der rsa_key.pem sidecar.lock status.json" {
			t.Errorf("the directory has %s", got)
		}
	})
}

// What no sidecar has published, by its status.json, is not removed.
func TestKey_FilesOfOthersStay(t *testing.T) {
	d := another(dir(t), keyfile.DER)
	if err := os.WriteFile(filepath.Join(d.Path, "rsa_key.b64"), []byte("of somebody else"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock(t, d, thisSource)
	for range 2 {
		put(t, d, testkey.Key(0))
		status(t, d, thisSource, testkey.Key(0))
	}
	if got := names(t, d); got != "rsa_key.b64 rsa_key.der sidecar.lock status.json" {
		t.Errorf("the directory has %s", got)
	}
}

// A new key keeps the modes that the readers of two sidecars have.
func TestKey_ModesOfTwoSidecars(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	second := another(d, keyfile.PEM)
	second.Mode = 0o400
	lock(t, second, thisSource)
	put(t, second, testkey.Key(1))
	for _, f := range keyfile.Formats {
		if info, err := os.Stat(filepath.Join(d.Path, f.FileName())); err != nil || info.Mode() != 0o440 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}

// `once` publishes once: what the several keys were is removed with it.
func TestLayout_SeveralKeysThenOneAtOnce(t *testing.T) {
	parent := t.TempDir()
	for _, d := range keys(t, parent, "one", "two") {
		put(t, d, testkey.Key(0))
		d.Unlock()
	}
	top := publish.New(publish.Dir{Path: parent, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440})
	lock(t, top, thisSource)
	put(t, top, testkey.Key(1))
	if got := names(t, top); got != "rsa_key.der sidecar.lock status.json" {
		t.Errorf("the directory has %s", got)
	}
}

// A key that was never there leaves the list with its setting.
func TestLayout_KeyWithoutFilesLeavesTheList(t *testing.T) {
	parent := t.TempDir()
	several := keys(t, parent, "one", "two")
	put(t, several[0], testkey.Key(0))
	status(t, several[0], thisSource, testkey.Key(0))
	status(t, several[1], otherSource, nil)
	for _, d := range several {
		d.Unlock()
	}
	keys(t, parent, "one")
	if s, err := keyfile.ReadStatus(parent); err != nil || len(s.Keys) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := publish.Health(parent); err != nil {
		t.Error(err)
	}
}
