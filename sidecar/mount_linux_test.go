package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// These directories need mount(2), and so root: they run in CI's container.
func init() {
	badDirectories = append(badDirectories,
		badDirectory{"read-only", func(k *task) { k.mount("size=1m") }, readOnly,
			[]string{"read-only file system", "mount the file system read-write", "in the sidecar's container"}},
		badDirectory{"full", func(k *task) { k.mount("size=64k") }, full,
			[]string{"no space left on device", "make room in the file system", "size=1m"}},
	)
}

// mount puts a tmpfs over the key directory until the test ends.
func (k *task) mount(options string) {
	k.t.Helper()
	err := syscall.Mount("snowkey-test", k.dir, "tmpfs", 0, options)
	if errors.Is(err, syscall.EPERM) {
		k.t.Skip("mount(2) is for root (in a container with CAP_SYS_ADMIN) only")
	}
	k.must(err)
	k.t.Cleanup(func() {
		if err := syscall.Unmount(k.dir, syscall.MNT_DETACH); err != nil {
			k.t.Error(err)
		}
	})
}

func readOnly(k *task) func() {
	// Mounted over itself: a mount on which a file is open for writing, such as the lock, cannot become read-only.
	k.must(syscall.Mount(k.dir, k.dir, "", syscall.MS_BIND, ""))
	k.must(syscall.Mount("", k.dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
	return func() { k.must(syscall.Unmount(k.dir, syscall.MNT_DETACH)) }
}

func full(k *task) func() {
	filler, err := os.Create(filepath.Join(k.dir, "filler"))
	k.must(err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		k.t.Fatal(err)
	}
	return func() { k.must(os.Remove(filler.Name())) }
}

// A tmpfs is empty again once its last container has ended. The sidecar restores key and socket there, although SSM
// refuses the key by then.
func TestMount_EmptyVolumeGetsTheKeyAgain(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.mount("size=1m")
	run := k.run()
	k.ssm.DenyParameter(keyParameter)
	k.must(syscall.Unmount(k.dir, syscall.MNT_DETACH))
	k.must(syscall.Mount("snowkey-test", k.dir, "tmpfs", 0, "size=1m"))

	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, oldFingerprint))
	run.eventually("the socket is there again", func() bool { return run.connect() == nil })
}
