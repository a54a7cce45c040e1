//go:build faults

package faults

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
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
func onTmpfs(options string) func(*fixture) {
	return func(f *fixture) {
		needsNamespaces(f.t)
		f.mount(options)
		f.t.Cleanup(func() { _ = syscall.Unmount(f.dir, syscall.MNT_DETACH) })
	}
}

func memoryOnly(f *fixture) {
	onTmpfs("size=1m")(f)
	f.sidecarEnv["SNOWKEY_REQUIRE_TMPFS"] = "true"
}

func (f *fixture) mount(options string) {
	f.t.Helper()
	if err := syscall.Mount("faults", f.dir, "tmpfs", 0, options); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) unmount() {
	f.t.Helper()
	if err := syscall.Unmount(f.dir, syscall.MNT_DETACH); err != nil {
		f.t.Fatal(err)
	}
}

func full(f *fixture) func() {
	filler, err := os.Create(filepath.Join(f.dir, "filler"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		f.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler.Name()); err != nil {
			f.t.Error(err)
		}
	}
}

// readOnly mounts the volume once more, over itself: the one below cannot become read-only, since the sidecar has its
// lock open in it.
func readOnly(f *fixture) func() {
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY} {
		if err := syscall.Mount(f.dir, f.dir, "", flags, ""); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.unmount
}

// unmounted leaves the directory below, which is on a disk.
func unmounted(f *fixture, s scenario) time.Duration {
	s.breaks = func(f *fixture) func() {
		f.readers.away.Store(true)
		f.unmount()
		return func() { f.mount("size=1m") }
	}
	took := outage(f, s)
	f.readers.away.Store(false)
	f.rotate()
	f.published()
	return took
}

// unmountedUnnoticed: the directory below is as good as any.
func unmountedUnnoticed(f *fixture, s scenario) time.Duration {
	f.begin()
	since := f.sidecar.Mark()
	f.readers.away.Store(true)
	f.unmount()
	f.rotate()
	queries := f.consumer.Mark()
	f.published()
	f.adopted(queries)
	again := f.sidecar.Mark()
	f.mount("size=1m")
	took := f.published()
	f.readers.away.Store(false)
	testenv.Eventually(f.t, "a line says that the volume is back", func() bool { return f.sidecar.Said(again, `"key published"`, `"filesystem":"tmpfs"`) })
	f.quiet(since)
	f.rotate()
	f.published()
	return took
}

// emptiedWithoutSSM has nothing but the sidecar's memory to restore the files from.
func emptiedWithoutSSM(f *fixture, s scenario) time.Duration {
	f.begin()
	since := f.sidecar.Mark()
	f.toSSM.set(way{refuse: true})
	f.fails(since, s.class, s.says, true)
	f.readers.away.Store(true)
	f.unmount()
	f.mount("size=1m")
	since = f.sidecar.Mark()
	took := testenv.Eventually(f.t, "the files are back", func() bool { return f.onDisk(keyfile.DER) && f.onDisk(keyfile.PEM) })
	f.fails(since, s.class, s.says, true)
	testenv.Eventually(f.t, "a line says that they are", func() bool { return f.sidecar.Said(since, `"key published"`) })
	f.readers.away.Store(false)
	f.rotate()
	queries := f.consumer.Mark()
	f.toSSM.set(way{})
	f.published()
	f.adopted(queries)
	return took
}
