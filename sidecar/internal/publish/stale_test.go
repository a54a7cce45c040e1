//go:build unix

package publish_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

func TestKey_FormatsNoLongerPublishedGo(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	d.Formats = []keyfile.Format{keyfile.DER}
	put(t, d, testkey.Key(1))
	if got := names(t, d); got != "rsa_key.der sidecar.lock status.json" {
		t.Errorf("the directory has %s", got)
	}
}

// Two sidecars of one source, with other settings: neither writes an unchanged key again, a new one is in every file at once.
func TestKey_SettingsOfTwoSidecars(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource)
	put(t, d, testkey.Key(0))
	second := another(d, keyfile.DER)
	second.Mode = 0o400
	lock(t, second, thisSource)
	before := inode(t, d)
	for range 3 {
		if put(t, second, testkey.Key(0)) || put(t, d, testkey.Key(0)) {
			t.Error("an unchanged key was written again")
		}
	}
	if inode(t, d) != before {
		t.Error("the file was replaced")
	}
	put(t, second, testkey.Key(1))
	for _, f := range keyfile.Formats {
		if k, err := keyfile.Read(filepath.Join(d.Path, f.FileName())); err != nil || !k.Equal(testkey.Key(1)) {
			t.Errorf("%s: %v, %v", f, k, err)
		}
	}
}

func TestLock_LeftoversGo(t *testing.T) {
	d := dir(t)
	lock(t, d, thisSource) // another sidecar of the source lives
	put(t, d, testkey.Key(0))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(d.Path, ".snowkey-A", "x"), 0o700)) // cannot be removed
	for _, name := range []string{".snowkey-LEFT", ".snowkey-1a2b-LEFT", ".snowkey-0-NEW", "somebody.else", ".hidden"} {
		must(os.WriteFile(filepath.Join(d.Path, name), nil, 0o600))
	}
	must(os.WriteFile(filepath.Join(d.Path, ".snowkey-0-OLD"), nil, 0o600))
	must(os.Chtimes(filepath.Join(d.Path, ".snowkey-0-OLD"), time.Time{}, time.Now().Add(-time.Hour)))
	lock(t, another(d), thisSource)
	if got := names(t, d); got != ".hidden .snowkey-0-NEW .snowkey-A rsa_key.b64 rsa_key.der rsa_key.pem rsa_key.pem.b64 sidecar.lock somebody.else status.json" {
		t.Errorf("the directory has %s", got)
	}
}

// keys are the Publishers of several keys under one directory.
func keys(t *testing.T, parent string, names ...string) []*publish.Publisher {
	t.Helper()
	var all []*publish.Publisher
	for _, name := range names {
		d := publish.New(publish.Dir{Path: filepath.Join(parent, name), InParent: true, Siblings: names, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440})
		if err := d.Create(); err != nil {
			t.Fatal(err)
		}
		lock(t, d, "arn:aws:ssm:us-east-1:111111111111:parameter/"+name)
		all = append(all, d)
	}
	return all
}

func TestLayout_OneKeyThenSeveral(t *testing.T) {
	top := dir(t)
	lock(t, top, thisSource)
	put(t, top, testkey.Key(0))
	status(t, top, thisSource, testkey.Key(0))

	early := publish.New(publish.Dir{Path: filepath.Join(top.Path, "one"), InParent: true, Siblings: []string{"one", "two"}, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440})
	if err := early.Create(); failure.Class(err) != keyfile.ClassLocked {
		t.Errorf("beside a sidecar of one key: %v", err)
	}
	if got := names(t, top); !strings.Contains(got, "rsa_key.der") {
		t.Errorf("a sidecar that lives lost its key: %s", got)
	}
	top.Unlock()
	several := keys(t, top.Path, "one", "two")
	for i, d := range several {
		if err := d.Create(); err != nil {
			t.Fatal(err)
		}
		put(t, d, testkey.Key(2))
		if i == 0 {
			status(t, d, "arn:aws:ssm:us-east-1:111111111111:parameter/one", testkey.Key(2))
			if err := publish.Health(top.Path); err == nil || !strings.Contains(err.Error(), "key two") {
				t.Errorf("healthy without key two: %v", err)
			}
		}
	}
	status(t, several[1], "arn:aws:ssm:us-east-1:111111111111:parameter/two", testkey.Key(2))
	if err := publish.Health(top.Path); err != nil {
		t.Error(err)
	}
	if got := names(t, top); strings.Contains(got, "rsa_key") {
		t.Errorf("the directory has %s", got)
	}
}

func TestLayout_SeveralKeysThenOne(t *testing.T) {
	parent := t.TempDir()
	several := keys(t, parent, "one", "two")
	for _, d := range several {
		put(t, d, testkey.Key(0))
	}
	several[0].Unlock()
	defer several[1].Unlock() // until then it has its lock: a lock that is garbage is released
	top := publish.New(publish.Dir{Path: parent, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440})
	lock(t, top, thisSource)
	status(t, top, thisSource, nil)
	put(t, top, testkey.Key(1))
	status(t, top, thisSource, testkey.Key(1))
	if got := names(t, top); got != "rsa_key.der sidecar.lock status.json two" {
		t.Errorf("the directory has %s", got)
	}
	if err := publish.Health(parent); err != nil {
		t.Error(err)
	}
}

func TestHealth_AnotherVersionHasPublished(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyfile.StatusName), []byte(`{"schema": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := publish.Health(dir)
	if err == nil || !strings.Contains(err.Error(), "another version") || strings.Contains(err.Error(), "no sidecar") {
		t.Errorf("error %v", err)
	}
}

func TestHealth_OfAKeyDirectory(t *testing.T) {
	testenv.Slow(t)
	d := dir(t)
	if err := publish.Health(d.Path); err == nil {
		t.Error("healthy without a status")
	}
	status(t, d, thisSource, nil)
	if err := publish.Health(d.Path); err == nil || !strings.Contains(err.Error(), "no key from "+thisSource) {
		t.Errorf("healthy without a key: %v", err)
	}
	put(t, d, testkey.Key(0))
	status(t, d, thisSource, testkey.Key(0))
	if err := publish.Health(d.Path); err != nil {
		t.Error(err)
	}
	other := publish.New(publish.Dir{Path: d.Path, Formats: []keyfile.Format{keyfile.PEM}, Mode: 0o440})
	content := keyfile.PEM.Encode(testkey.Key(1))
	path := filepath.Join(other.Path, keyfile.PEM.FileName())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := publish.Health(d.Path); err == nil || !strings.Contains(err.Error(), "do not agree") {
		t.Errorf("healthy with two keys: %v", err)
	}
	done := make(chan error)
	go func() { done <- publish.Health(d.Path) }()
	time.Sleep(50 * time.Millisecond)
	put(t, d, testkey.Key(0)) // the end of a publish
	if err := <-done; err != nil {
		t.Errorf("files that agreed in a moment: %v", err)
	}
}
