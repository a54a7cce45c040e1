//go:build faults

package faults

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

var volumeScenarios = []scenario{
	{
		fault: "the volume is full", class: keyfile.ClassFilesystem, says: "no space left on device", unsaid: true,
		within: 10 * time.Second, prepare: onTmpfs("size=64k"), breaks: full,
	},
	{
		fault: "the volume becomes read-only", class: keyfile.ClassFilesystem, says: "read-only file system", unsaid: true,
		within: 10 * time.Second, prepare: onTmpfs("size=1m"), breaks: readOnly,
	},
	{
		fault: "the volume is unmounted and mounted again, empty (`--require-tmpfs`)", class: keyfile.ClassFilesystem,
		says: "--require-tmpfs allows tmpfs and ramfs only", unsaid: true,
		within: 10 * time.Second, prepare: memoryOnly, run: unmounted,
	},
}

// onTmpfs has a volume in memory at the key directory.
func onTmpfs(options string) func(*world) {
	return func(w *world) {
		needsNamespaces(w.t)
		w.mount(options)
		w.t.Cleanup(func() { _ = syscall.Unmount(w.dir, syscall.MNT_DETACH) })
	}
}

func memoryOnly(w *world) {
	onTmpfs("size=1m")(w)
	w.sidecarEnv["SNOWKEY_REQUIRE_TMPFS"] = "true"
}

func (w *world) mount(options string) {
	w.t.Helper()
	if err := syscall.Mount("faults", w.dir, "tmpfs", 0, options); err != nil {
		w.t.Fatal(err)
	}
}

func full(w *world) func() {
	filler, err := os.Create(filepath.Join(w.dir, "filler"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		w.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler.Name()); err != nil {
			w.t.Error(err)
		}
	}
}

func readOnly(w *world) func() {
	remount := func(flags uintptr) {
		w.t.Helper()
		if err := syscall.Mount("", w.dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			w.t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	return func() { remount(0) }
}

// unmounted leaves the directory below, which is on a disk.
func unmounted(w *world, s scenario) time.Duration {
	s.breaks = func(w *world) func() {
		w.readers.away.Store(true)
		if err := syscall.Unmount(w.dir, syscall.MNT_DETACH); err != nil {
			w.t.Fatal(err)
		}
		return func() { w.mount("size=1m") }
	}
	took := outage(w, s)
	w.readers.away.Store(false)
	w.rotate()
	w.published()
	return took
}
