// Package owner determines the user and the group of files in a key directory.
//
// It reads modes and identities. It never changes a file.
package owner

import (
	"io/fs"
	"os"
	"slices"

	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// Group returns the group for new files in a directory with this mode and group: the process's own. In a pod it is the
// directory's if its set-group-ID bit is set and the process is a member: the kubelet makes a volume like that for
// fsGroup, which every container of the pod is in. Elsewhere such a bit must not let more processes read the key.
func Group(mode fs.FileMode, gid int) int {
	if mode&fs.ModeSetgid != 0 && platform.Here() == platform.Pod && isMember(gid) {
		return gid
	}
	return os.Getgid()
}

func isMember(gid int) bool {
	groups, err := os.Getgroups() // never on Windows
	return err == nil && slices.Contains(groups, gid)
}
