//go:build faults

package faults

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A power cut keeps what was synced, and of the rest any part: a file that was not synced has lost its end or
// all of it, a directory that was not synced has any of its changes and not others. There is no device mapper
// here to cut the power of, so strace records what the sidecar asks the kernel for, and every state that POSIX
// allows after every one of these calls is made, checked, and given to the next sidecar.
func TestPowerCut_LeavesAWholeKey(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		cannot(t, "no strace here: install Debian's package strace")
	}
	const severalKeys = "SNOWKEY_KEYS=name=etl,key-parameter=" + keyParameter + ",passphrase-parameter=" + passphraseParameter
	for _, tc := range []struct {
		name string
		old  bool   // whether there is a key before
		env  string // beside the usual
		sub  string // where the key files are
		made bool   // by a sidecar that was killed before it had synced that
	}{
		{name: "a new key", old: true},
		{name: "the first key"},
		{name: "the first of several keys", env: severalKeys, sub: "etl"},
		{name: "the first of several keys, whose directory is there", env: severalKeys, sub: "etl", made: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			var environ []string
			if tc.env != "" {
				delete(f.sidecarEnv, "SNOWKEY_KEY_PARAMETER")
				delete(f.sidecarEnv, "SNOWKEY_PASSPHRASE_PARAMETER")
				environ = []string{tc.env}
			}
			c := &cut{w: f, sub: tc.sub, environ: environ, old: tc.old, seen: map[string]state{}}
			if tc.old {
				c.once(f.dir)
				f.rotate()
			}
			d := newDisk(t, f.dir)
			if tc.made {
				made := filepath.Join(f.dir, tc.sub)
				if err := os.Mkdir(made, 0o755); err != nil {
					t.Fatal(err)
				}
				d.apply(t, call{what: "mkdir", path: made, mode: c.subMode()})
			}
			for _, call := range c.record() {
				d.apply(t, call)
				for _, s := range d.states() {
					c.seen[s.String()] = s
				}
			}
			last := d.states()
			for _, s := range slices.Sorted(maps.Keys(c.seen)) {
				c.try(c.seen[s])
			}
			for _, s := range last {
				if c.holds(s) != "new" {
					t.Errorf("the sidecar has ended, and a power cut leaves this:\n%s", s)
				}
			}
			t.Logf("%d states", len(c.seen))
			if len(c.seen) < 10 {
				t.Errorf("only %d states: not everything was recorded", len(c.seen))
			}
		})
	}
}

// A publisher without one of its syncs has to be found out.
func TestPowerCut_MissingSyncIsFound(t *testing.T) {
	old, next := keyfile.DER.Encode(key(1)), keyfile.DER.Encode(key(2))
	for _, tc := range []struct {
		without int // of the calls below
		finds   string
	}{{-1, ""}, {2, "torn"}, {4, "old at the end"}} {
		dir := t.TempDir()
		path, temp := filepath.Join(dir, "rsa_key.der"), filepath.Join(dir, temporary+"X")
		if err := os.WriteFile(path, old, 0o440); err != nil {
			t.Fatal(err)
		}
		d := newDisk(t, dir)
		var found string
		for i, call := range []call{
			{what: "create", path: temp}, {what: "write", path: temp, data: next}, {what: "fsync", path: temp},
			{what: "rename", path: temp, to: path}, {what: "fsync", path: dir},
		} {
			if i == tc.without {
				continue
			}
			d.apply(t, call)
			for _, s := range d.states() {
				if content := s[path].data; !bytes.Equal(content, old) && !bytes.Equal(content, next) {
					found = "torn"
				}
			}
		}
		for _, s := range d.states() {
			if found == "" && !bytes.Equal(s[path].data, next) {
				found = "old at the end"
			}
		}
		if found != tc.finds {
			t.Errorf("without call %d: found %q, want %q", tc.without, found, tc.finds)
		}
	}
}

// A cut is one publish and what may become of it.
type cut struct {
	w       *fixture
	sub     string
	environ []string
	old     bool
	seen    map[string]state
}

// once publishes into a directory.
func (c *cut) once(dir string) {
	c.w.t.Helper()
	if out, err := c.command(dir, "once").CombinedOutput(); err != nil {
		c.w.t.Fatalf("once: %v\n%s", err, out)
	}
}

func (c *cut) command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binaries, "sidecar"), args...)
	cmd.Env = append(list(c.w.sidecarEnv), c.environ...)
	cmd.Env = append(cmd.Env, "SNOWKEY_DIR="+dir) // the last one counts
	return cmd
}

// try makes a state and has the next sidecar find it.
func (c *cut) try(s state) {
	t := c.w.t
	t.Helper()
	holds := c.holds(s)
	if holds == "" || c.old && holds == "none" {
		t.Errorf("a power cut can leave this:\n%s", s)
		return
	}
	dir, err := os.MkdirTemp("", "faults-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, c.mode()); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(s)) {
		f := s[path]
		path = filepath.Join(dir, strings.TrimPrefix(path, c.w.dir))
		if f.dir {
			err = os.Mkdir(path, f.mode)
		} else {
			err = os.WriteFile(path, f.data, f.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file, ok := s[filepath.Join(c.w.dir, c.sub, keyfile.StatusName)]
	status, err := keyfile.ParseStatus(file.data)
	newest := int(c.w.newest.Load())
	if ok && err == nil && (holds == "new" && status.Fingerprint == key(newest).Fingerprint() || holds == "old" && status.Fingerprint == key(newest-1).Fingerprint()) {
		c.healthy(dir, s)
	}
	c.once(dir)
	c.healthy(dir, s)
	entries, err := os.ReadDir(filepath.Join(dir, c.sub))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, c.sub)); err != nil || c.sub != "" && info.Mode().Perm() != c.subMode() {
		t.Errorf("after the next start the key's directory has %v, %v, want %v; before it there was\n%s", info.Mode(), err, c.subMode(), s)
	}
	above, err := filepath.Glob(filepath.Join(dir, temporary+"*"))
	if err != nil || len(above) > 0 {
		t.Errorf("after the next start there is %s, %v; before it there was\n%s", above, err, s)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "rsa_key.der rsa_key.pem sidecar.lock status.json" {
		t.Errorf("after the next start the directory has %s; before it had\n%s", got, s)
	}
	for _, f := range []keyfile.Format{keyfile.DER, keyfile.PEM} {
		if k, err := keyfile.Read(filepath.Join(dir, c.sub, f.FileName())); err != nil || k.Fingerprint() != c.w.newestFingerprint() {
			t.Errorf("after the next start %s has %v, %v", f, k, err)
		}
	}
}

func (c *cut) healthy(dir string, s state) {
	c.w.t.Helper()
	if out, err := c.command(filepath.Join(dir, c.sub), "healthcheck").CombinedOutput(); err != nil {
		c.w.t.Errorf("healthcheck: %v\n%s\n%s", err, out, s)
	}
}

// subMode is the mode of a key's directory: the parent's, minus write for others.
func (c *cut) subMode() fs.FileMode { return c.mode()&0o755 | 0o700 }

// mode is that of the directory that the sidecar is given.
func (c *cut) mode() fs.FileMode {
	c.w.t.Helper()
	info, err := os.Stat(c.w.dir)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return info.Mode().Perm()
}

// holds says which key a state has: old, new, both (one in each format), none, or "" for anything else.
func (c *cut) holds(s state) string {
	newest := int(c.w.newest.Load())
	dir := filepath.Join(c.w.dir, c.sub)
	var found []string
	for _, f := range []keyfile.Format{keyfile.DER, keyfile.PEM} {
		file, ok := s[filepath.Join(dir, f.FileName())]
		switch {
		case !ok:
			found = append(found, "none")
		case file.mode != 0o440:
			return ""
		case bytes.Equal(file.data, f.Encode(key(newest))):
			found = append(found, "new")
		case c.old && bytes.Equal(file.data, f.Encode(key(newest-1))):
			found = append(found, "old")
		default:
			return ""
		}
	}
	if status, ok := s[filepath.Join(dir, keyfile.StatusName)]; ok {
		if _, err := keyfile.ParseStatus(status.data); err != nil || status.mode != 0o444 {
			return ""
		}
	}
	switch {
	case found[0] == found[1]:
		return found[0]
	case slices.Contains(found, "none") && c.old:
		return ""
	case slices.Contains(found, "none"):
		return "none" // not yet in every format, which is what health means
	default:
		return "both"
	}
}
