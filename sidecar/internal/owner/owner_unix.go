//go:build unix

package owner

import (
	"io/fs"
	"os"
	"syscall"
)

// GroupIn is Group for a directory.
func GroupIn(dir fs.FileInfo) int {
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
