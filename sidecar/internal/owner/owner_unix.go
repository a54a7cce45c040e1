//go:build unix

package owner

import (
	"io/fs"
	"os"
	"syscall"
)

// GroupIn is Group for a directory, by what Stat answers; without an answer it is the process's own.
func GroupIn(dir fs.FileInfo, err error) int {
	if err != nil {
		return os.Getgid()
	}
	stat, ok := dir.Sys().(*syscall.Stat_t)
	if !ok {
		return os.Getgid()
	}
	return Group(dir.Mode(), int(stat.Gid))
}

// IsOurs reports whether a file belongs to this process's user.
func IsOurs(file fs.FileInfo) bool {
	stat, ok := file.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// Has reports whether a file belongs to this process's user, and to the group.
func Has(file fs.FileInfo, gid int) bool {
	stat, ok := file.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid() && int(stat.Gid) == gid
}
