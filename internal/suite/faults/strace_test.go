//go:build faults

package faults

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

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
