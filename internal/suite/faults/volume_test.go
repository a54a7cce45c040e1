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
		says: "--require-tmpfs allows tmpfs and ramfs only", unsaid: true, consumer: noFiles,
		within: 10 * time.Second, prepare: memoryOnly, run: unmounted,
	},
	{
		fault: "the volume is unmounted and mounted again, empty, without `--require-tmpfs`", consumer: noFiles,
		operator: "`key published` with the filesystem below, where the key stays on disk, and again when the volume is back",
		within:   10 * time.Second, prepare: onTmpfs("size=1m"), run: unmountedUnnoticed,
	},
	{
		fault: "the volume comes back empty while SSM refuses connections", class: keyfile.ClassNetwork, says: "connection refused", consumer: noFiles,
		operator: "`key published` beside it: the key in memory", within: 10 * time.Second, prepare: memoryOnly, run: emptiedWithoutSSM,
	},
}

// noFiles: a program that reads them then has to wait, as at its start.
const noFiles = "no files until the next refresh; programs that have the key go on"

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

func (w *world) unmount() {
	w.t.Helper()
	if err := syscall.Unmount(w.dir, syscall.MNT_DETACH); err != nil {
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

// readOnly mounts the volume once more, over itself: the one below cannot become read-only, since the sidecar has its
// lock open in it.
func readOnly(w *world) func() {
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY} {
		if err := syscall.Mount(w.dir, w.dir, "", flags, ""); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.unmount
}

// unmounted leaves the directory below, which is on a disk.
func unmounted(w *world, s scenario) time.Duration {
	s.breaks = func(w *world) func() {
		w.readers.away.Store(true)
		w.unmount()
		return func() { w.mount("size=1m") }
	}
	took := outage(w, s)
	w.readers.away.Store(false)
	w.rotate()
	w.published()
	return took
}

// unmountedUnnoticed: the directory below is as good as any.
func unmountedUnnoticed(w *world, s scenario) time.Duration {
	w.begin()
	since := w.sidecar.mark()
	w.readers.away.Store(true)
	w.unmount()
	w.rotate()
	queries := w.consumer.mark()
	w.published()
	w.adopted(queries)
	again := w.sidecar.mark()
	w.mount("size=1m")
	took := w.published()
	w.readers.away.Store(false)
	eventually(w.t, "a line says that the volume is back", func() bool { return w.sidecar.said(again, `"key published"`, `"filesystem":"tmpfs"`) })
	w.quiet(since)
	w.rotate()
	w.published()
	return took
}

// emptiedWithoutSSM has nothing but the sidecar's memory to restore the files from.
func emptiedWithoutSSM(w *world, s scenario) time.Duration {
	w.begin()
	since := w.sidecar.mark()
	w.toSSM.set(way{refuse: true})
	w.fails(since, s.class, s.says, true)
	w.readers.away.Store(true)
	w.unmount()
	w.mount("size=1m")
	since = w.sidecar.mark()
	took := eventually(w.t, "the files are back", func() bool { return w.onDisk(keyfile.DER) && w.onDisk(keyfile.PEM) })
	w.fails(since, s.class, s.says, true)
	eventually(w.t, "a line says that they are", func() bool { return w.sidecar.said(since, `"key published"`) })
	w.readers.away.Store(false)
	w.rotate()
	queries := w.consumer.mark()
	w.toSSM.set(way{})
	w.published()
	w.adopted(queries)
	return took
}
