//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A power cut keeps what was synced, and of the rest any part: a file that was not synced has lost its end or
// all of it, a directory that was not synced has any of its changes and not others. There is no device mapper
// here to cut the power of, so strace records what the sidecar asks the kernel for, and every state that POSIX
// allows after every one of these calls is made, checked, and given to the next sidecar.
func TestAPowerCutLeavesAWholeKey(t *testing.T) {
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
			w := newWorld(t)
			var environ []string
			if tc.env != "" {
				delete(w.sidecarEnv, "SNOWKEY_KEY_PARAMETER")
				delete(w.sidecarEnv, "SNOWKEY_PASSPHRASE_PARAMETER")
				environ = []string{tc.env}
			}
			c := &cut{w: w, sub: tc.sub, environ: environ, old: tc.old, seen: map[string]state{}}
			if tc.old {
				c.once(w.dir)
				w.rotate()
			}
			d := newDisk(t, w.dir)
			if tc.made {
				made := filepath.Join(w.dir, tc.sub)
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
func TestAPowerCutFindsAMissingSync(t *testing.T) {
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
	w       *world
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

// record publishes the newest key and gives what the sidecar did to its directory.
func (c *cut) record() []call {
	t := c.w.t
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	once := c.command(c.w.dir, "once")
	args := []string{"-ff", "-ttt", "-y", "-xx", "-s", "1000000", "-o", trace, "-e", "signal=none", "-e", "trace=" + strings.Join(traced, ",")}
	cmd := exec.Command("strace", append(append(args, once.Path), once.Args[1:]...)...)
	cmd.Env = slices.Concat(once.Env, []string{"PATH=" + os.Getenv("PATH")})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	files, err := filepath.Glob(trace + ".*") // one for each thread
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(text), "\n")...)
	}
	slices.Sort(lines) // by time, which each begins with
	var calls []call
	for _, line := range lines {
		if call, ok := parse(t, line); ok && (call.path == c.w.dir || strings.HasPrefix(call.path, c.w.dir+"/")) {
			calls = append(calls, call)
		}
	}
	return calls
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
	if c.agrees(s, holds) {
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

// agrees reports whether status.json names the key that both files hold: between two renames it does not, until the next start.
func (c *cut) agrees(s state, holds string) bool {
	file, ok := s[filepath.Join(c.w.dir, c.sub, keyfile.StatusName)]
	status, err := keyfile.ParseStatus(file.data)
	newest := int(c.w.newest.Load())
	return ok && err == nil && (holds == "new" && status.Fingerprint == key(newest).Fingerprint() || holds == "old" && status.Fingerprint == key(newest-1).Fingerprint())
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

// A call is one that changes a directory, or syncs.
type call struct {
	what string // create, mkdir, write, chmod, fsync, rename, remove
	path string
	to   string
	data []byte
	mode fs.FileMode
}

// traced are the calls that change files. Those that parse does not know are not expected.
var traced = []string{
	"open", "creat", "openat", "openat2", "write", "pwrite64", "writev", "pwritev", "pwritev2", "fsync", "fdatasync", "sync_file_range",
	"rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "?fchmodat2", "mkdir", "mkdirat",
	"truncate", "ftruncate", "link", "linkat", "symlink", "symlinkat", "fallocate", "copy_file_range", "sendfile", "splice",
}

// With -xx every string is hexadecimal, so that no quotation mark in one ends it.
var (
	at        = `(?:AT_FDCWD|\d+)<([^>]*)>, "([^"]*)"`
	succeeded = regexp.MustCompile(`\) = (?:[1-9]|0$|0<)`)
	patterns  = []struct {
		what string
		re   *regexp.Regexp
	}{
		{"create", regexp.MustCompile(`^openat\(` + at + `, \S*O_CREAT\S*, \d+\)`)},
		{"inspect", regexp.MustCompile(`^openat\(` + at + `, (?:O_RDONLY|O_PATH)[^,)]*(?:, \d+)?\)`)},
		{"mkdir", regexp.MustCompile(`^mkdirat\(` + at + `, \d+\)`)},
		{"remove", regexp.MustCompile(`^unlinkat\(` + at + `, 0\)`)},
		{"rename", regexp.MustCompile(`^renameat\(` + at + `, ` + at + `\)`)},
		{"write", regexp.MustCompile(`^write\(\d+<([^>]*)>, "([^"]*)", \d+\)`)},
		{"chmod", regexp.MustCompile(`^fchmod\(\d+<([^>]*)>, (\d+)\)`)},
		{"fsync", regexp.MustCompile(`^fsync\(\d+<([^>]*)>\)`)},
	}
)

// parse reads a line of strace. Calls that failed, or that are not about files, are none.
func parse(t *testing.T, line string) (c call, ok bool) {
	t.Helper()
	_, line, _ = strings.Cut(line, " ") // the time
	if !succeeded.MatchString(line) {
		return c, false
	}
	for _, p := range patterns {
		m := p.re.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if p.what == "inspect" {
			return c, false
		}
		c.what, c.path = p.what, string(unhex(m[1]))
		switch p.what {
		case "create", "mkdir", "remove", "rename":
			c.path = filepath.Join(c.path, string(unhex(m[2])))
		case "write":
			c.data = unhex(m[2])
		case "chmod":
			c.mode = mode(t, m[2])
		}
		if p.what == "rename" {
			c.to = filepath.Join(string(unhex(m[3])), string(unhex(m[4])))
		}
		return c, true
	}
	t.Fatalf("a call that is not known here: %s", line)
	return c, false
}

func mode(t *testing.T, octal string) fs.FileMode {
	t.Helper()
	n, err := strconv.ParseUint(octal, 8, 32)
	if err != nil {
		t.Fatal(err)
	}
	return fs.FileMode(n)
}

func unhex(text string) []byte {
	var out []byte
	for piece := range strings.SplitSeq(strings.TrimPrefix(text, `\x`), `\x`) {
		if n, err := strconv.ParseUint(piece, 16, 8); err == nil {
			out = append(out, byte(n))
		}
	}
	return out
}

// A disk is what a filesystem has in memory and what of it a power cut cannot take.
type disk struct {
	root    string
	now     map[string]*node // by path
	durable map[string]*node
	pending []change
}

// A node is a file or a directory whatever its name.
type node struct {
	dir        bool
	data, kept []byte      // as it is, and as it was synced
	mode, held fs.FileMode // likewise
}

// A change of a directory: a name that comes, goes, or both.
type change struct {
	dir      string
	from, to string
	node     *node
}

func (c change) apply(names map[string]*node) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

// newDisk has what is in the directory, synced.
func newDisk(t *testing.T, root string) *disk {
	t.Helper()
	d := &disk{root: root, now: map[string]*node{}}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		d.now[path] = &node{data: data, kept: data, mode: info.Mode(), held: info.Mode()}
	}
	d.durable = maps.Clone(d.now)
	return d
}

func (d *disk) apply(t *testing.T, c call) {
	t.Helper()
	n := d.now[c.path]
	if n == nil && !slices.Contains([]string{"create", "mkdir"}, c.what) && c.path != d.root {
		t.Fatalf("%s of %s, which is not known", c.what, c.path)
	}
	switch c.what {
	case "create", "mkdir":
		if n == nil {
			mode := fs.FileMode(0o600)
			if c.what == "mkdir" {
				mode = cmp.Or(c.mode, 0o700) // what a umask may leave
			}
			d.change(change{dir: filepath.Dir(c.path), to: c.path, node: &node{dir: c.what == "mkdir", mode: mode, held: mode}})
		}
	case "write":
		n.data = append(slices.Clone(n.data), c.data...)
	case "chmod":
		n.mode = c.mode
	case "rename":
		d.change(change{dir: filepath.Dir(c.path), from: c.path, to: c.to, node: n})
	case "remove":
		d.change(change{dir: filepath.Dir(c.path), from: c.path})
	case "fsync":
		if n != nil {
			n.kept, n.held = n.data, n.mode
		}
		d.pending = slices.DeleteFunc(d.pending, func(p change) bool {
			if p.dir == c.path {
				p.apply(d.durable)
			}
			return p.dir == c.path
		})
	}
}

func (d *disk) change(c change) {
	c.apply(d.now)
	d.pending = append(d.pending, c)
}

// A state is what is there when the power is back.
type state map[string]content

type content struct {
	dir  bool
	data []byte
	mode fs.FileMode
}

func (s state) String() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s %v, %d bytes with sum %x\n", path, s[path].mode, len(s[path].data), sha256.Sum256(s[path].data))
	}
	return b.String()
}

// states are all that a power cut can leave now: any of the pending changes, and of each file that was not
// synced what was, or half, or all.
func (d *disk) states() []state {
	var all []state
	for chosen := range 1 << len(d.pending) {
		names := maps.Clone(d.durable)
		for i, p := range d.pending {
			if chosen>>i&1 == 1 {
				p.apply(names)
			}
		}
		all = append(all, d.contents(names)...)
	}
	return all
}

func (d *disk) contents(names map[string]*node) []state {
	all := []state{{}}
	for path, n := range names {
		if parent := filepath.Dir(path); parent != d.root && names[parent] == nil {
			continue // gone with its directory
		}
		var next []state
		for _, variant := range n.variants() {
			for _, s := range all {
				s = maps.Clone(s)
				s[path] = variant
				next = append(next, s)
			}
		}
		all = next
	}
	return all
}

func (n *node) variants() []content {
	all := []content{{n.dir, n.data, n.mode}}
	if !bytes.Equal(n.data, n.kept) {
		all = append(all, content{n.dir, n.kept, n.mode}, content{n.dir, n.data[:(len(n.kept)+len(n.data))/2], n.mode})
	}
	if n.mode != n.held {
		for _, c := range slices.Clone(all) {
			all = append(all, content{n.dir, c.data, n.held})
		}
	}
	return all
}
