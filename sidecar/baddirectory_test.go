package main

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// A badDirectory is a fault of the key directory, from the start or while the task runs.
type badDirectory struct {
	name    string
	prepare func(*task)        // before the good key is published; nil for a directory like any other
	spoil   func(*task) func() // returns what repairs it
	says    []string
}

var badDirectories = []badDirectory{
	{"missing", nil, replaceDir(nil),
		[]string{"no such file or directory", "create the directory: mkdir ", "--dir"}},
	{"not a directory", nil, replaceDir(func(dir string) error { return os.WriteFile(dir, nil, 0o600) }),
		[]string{"not a directory", "--dir takes the directory that holds the key files"}},
	{"not writable", (*task).unprivileged, func(k *task) func() {
		k.must(os.Chmod(k.dir, 0o555))
		return func() { k.must(os.Chmod(k.dir, 0o755)) }
	},
		[]string{"permission denied", "make the directory writable for uid", "mode=0750,uid=65532", "chown"}},
	{"a symbolic link for the key", nil, replaceFile("rsa_key.pem", func(path string) error { return os.Symlink("/etc/passwd", path) }),
		[]string{"rsa_key.pem is a symbolic link", "remove it"}},
	{"a symbolic link to nothing for the key", nil, replaceFile("rsa_key.der", func(path string) error { return os.Symlink("nothing", path) }),
		[]string{"rsa_key.der is a symbolic link", "remove it"}},
	{"a directory for the key", nil, replaceFile("rsa_key.pem", func(path string) error { return os.Mkdir(path, 0o755) }),
		[]string{"rsa_key.pem is a directory", "remove it"}},
	{"a FIFO for the key", nil, replaceFile("rsa_key.der", func(path string) error { return mkfifo(path, 0o666) }),
		[]string{"rsa_key.der is not a regular file", "remove it"}},
	{"a socket for the key", nil, replaceFile("rsa_key.pem", func(path string) error {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			return err
		}
		listener.SetUnlinkOnClose(false)
		return listener.Close()
	}),
		[]string{"rsa_key.pem is not a regular file", "remove it"}},
}

// replaceDir moves the directory away, with all that is in it, and puts something else in its place.
func replaceDir(put func(dir string) error) func(*task) func() {
	return func(k *task) func() {
		away := k.dir + ".away"
		k.must(os.Rename(k.dir, away))
		if put != nil {
			k.must(put(k.dir))
		}
		return func() {
			k.must(os.RemoveAll(k.dir))
			k.must(os.Rename(away, k.dir))
		}
	}
}

// replaceFile removes one of the files and puts something else in its place.
func replaceFile(name string, put func(path string) error) func(*task) func() {
	return func(k *task) func() {
		path := filepath.Join(k.dir, name)
		k.must(os.Remove(path))
		k.must(put(path))
		return func() { k.must(os.RemoveAll(path)) }
	}
}

func TestBadDirectory_KeyStaysAndRepairIsNoticed(t *testing.T) {
	t.Parallel()
	for _, bad := range badDirectories {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			for command, test := range map[string]func(*task, badDirectory){"once": onceInBadDirectory, "run": runInBadDirectory} {
				t.Run(command, func(t *testing.T) {
					t.Parallel()
					k := newTask(t)
					if bad.prepare != nil {
						bad.prepare(k)
					}
					test(k, bad)
				})
			}
		})
	}
}

func onceInBadDirectory(k *task, bad badDirectory) {
	k.do("once").want(exitDone)
	k.ssm.Put(keyParameter, content(k.t, nextKey))
	repair := bad.spoil(k)
	before := k.snapshot()

	k.do("once").want(exitFailed, bad.says...)
	k.untouched(before)

	repair()
	k.do("once").want(exitDone, "published "+fingerprint(k.t, nextFingerprint))
}

// run waits for a directory that is bad from the start, as for a volume that is mounted late.
func runInBadDirectory(k *task, bad badDirectory) {
	k.do("once").want(exitDone)
	k.ssm.Put(keyParameter, content(k.t, nextKey))
	repair := bad.spoil(k)
	before := k.snapshot()

	run := k.start("run", onDemand)
	run.fails(badInput{name: bad.name, class: keyfile.ClassFilesystem, says: bad.says}, 0)
	run.signal(syscall.SIGHUP)
	run.fails(badInput{name: bad.name, class: keyfile.ClassFilesystem, says: bad.says}, 1)
	k.untouched(before)

	repair()
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(k.t, nextFingerprint))
	run.end(syscall.SIGTERM)
	run.want(exitDone)
}

// The same while a process that has published is running.
func TestRun_SurvivesABadDirectory(t *testing.T) {
	t.Parallel()
	for _, bad := range badDirectories {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			if bad.prepare != nil {
				bad.prepare(k)
			}
			run := k.run()
			repair := bad.spoil(k)
			k.ssm.Put(keyParameter, content(t, nextKey))
			before := k.snapshot()

			run.signal(syscall.SIGHUP)
			run.fails(badInput{name: bad.name, class: keyfile.ClassFilesystem, says: bad.says}, 0)
			k.untouched(before)

			repair()
			run.signal(syscall.SIGHUP)
			run.follows(fingerprint(t, nextFingerprint))
		})
	}
}

func TestOnce_ReportsAnUnwritableStatus(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	path := filepath.Join(k.dir, keyfile.StatusName)
	k.must(os.Mkdir(path, 0o755))
	k.do("once").want(exitFailed, "status.json is a directory", "remove it")
	k.must(os.Remove(path))
	k.do("once").want(exitDone)
}

func TestRequireTmpfs_RefusesADisk(t *testing.T) {
	t.Parallel()
	t.Run("on disk", func(t *testing.T) {
		t.Parallel()
		k := newTask(t)
		filesystem := publish.Filesystem(k.dir)
		if filesystem == "tmpfs" {
			t.Skip("the directory for temporary files is itself a tmpfs")
		}
		k.do("once", "--require-tmpfs").want(exitFailed,
			k.dir+" is on "+filesystem, "mount a tmpfs volume there with size=1m", "drop --require-tmpfs")
		if left := k.snapshot(); len(left) > 0 {
			t.Errorf("it wrote %v", left)
		}
	})
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		k := newTask(t)
		k.dir = tmpfs(t)
		k.do("once", "--require-tmpfs").want(exitDone, "published", "(tmpfs)")
		if s := k.status(); s.Filesystem != "tmpfs" {
			t.Errorf("the status says %q", s.Filesystem)
		}
	})
}

// tmpfs is a directory on the one tmpfs that every Linux has.
func tmpfs(t *testing.T) string {
	t.Helper()
	const shm = "/dev/shm"
	if publish.Filesystem(shm) != "tmpfs" {
		t.Skip(shm + " is not a tmpfs here")
	}
	dir, err := os.MkdirTemp(shm, "snowkey-test-")
	if err != nil {
		t.Skipf("%s is a tmpfs, but closed: %v", shm, err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
