package publish

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Magic numbers of statfs(2), by the names that mount(8) uses.
var filesystems = map[int64]string{
	0x01021994: "tmpfs",
	0x858458f6: "ramfs",
	0x0000ef53: "ext4",
	0x58465342: "xfs",
	0x9123683e: "btrfs",
	0x794c7630: "overlay",
	0x00006969: "nfs",
	0x01021997: "9p",
	0x65735546: "fuse",
	0x2fc12fc1: "zfs",
}

// Filesystem is the name of the filesystem that path is on, "unknown" if it cannot be told.
func Filesystem(path string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return unknown
	}
	return named(stat)
}

// filesystemOf is the filesystem of an open directory.
func filesystemOf(root *os.Root) string {
	dir, err := root.Open(".")
	if err != nil {
		return unknown
	}
	defer dir.Close()
	var stat syscall.Statfs_t
	if err := syscall.Fstatfs(int(dir.Fd()), &stat); err != nil {
		return unknown
	}
	return named(stat)
}

const unknown = "unknown"

func named(stat syscall.Statfs_t) string {
	magic := int64(stat.Type) & 0xffffffff //nolint:unconvert // int32 on some architectures
	if name, ok := filesystems[magic]; ok {
		return name
	}
	return fmt.Sprintf("%#x", magic)
}

// InMemory reports whether what Filesystem names keeps nothing on a disk.
func InMemory(filesystem string) bool { return filesystem == "tmpfs" || filesystem == "ramfs" }

// cannotSync reports a filesystem that does not sync directories.
func cannotSync(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}
