//go:build unix

package doctor

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

func ownedBy(info fs.FileInfo) owned {
	stat := info.Sys().(*syscall.Stat_t)
	return owned{stat.Uid, stat.Gid, info.Mode()}
}

// writable returns why this user cannot write into a directory, nil if it can.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// freeBytes is how much this user can write there, 0 if that is not known.
func freeBytes(dir string) uint64 {
	var space unix.Statfs_t
	if unix.Statfs(dir, &space) != nil {
		return 0
	}
	return uint64(space.Bavail) * uint64(space.Bsize) //nolint:unconvert // other types on other systems
}
