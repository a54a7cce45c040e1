// Package owner says whose the files in a key directory are: the user's of this process, and of the group that lets the
// readers in.
//
// It reads modes and identities. It never changes a file.
package owner

import (
	"io/fs"
	"os"
	"slices"
)

// Group is the group of what this process puts into a directory of this mode and group: the process's own. If the directory
// has the set-group-ID bit and the process is in its group, it is the directory's: the kubelet makes a volume like that for
// the fsGroup of a pod, which every container of the pod is in besides its own group.
func Group(mode fs.FileMode, gid int) int {
	if mode&fs.ModeSetgid != 0 && isMember(gid) {
		return gid
	}
	return os.Getgid()
}

func isMember(gid int) bool {
	groups, err := os.Getgroups() // never on Windows
	return err == nil && slices.Contains(groups, gid)
}
