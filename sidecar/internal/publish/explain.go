package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// MountOptions are the mount options of a tmpfs that belongs to the sidecar's user.
func MountOptions(uid, gid int) string {
	return fmt.Sprintf("size=1m,mode=0750,uid=%d,gid=%d,noexec,nosuid,nodev", uid, gid)
}

func mountOptions() string { return MountOptions(os.Getuid(), os.Getgid()) }

// explain says which action on name failed, and what to change in the mount.
func (d Dir) explain(action, name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the path is added below
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		err = link.Err
	}
	return failure.New(keyfile.ClassFilesystem,
		fmt.Errorf("cannot %s %s: %w", action, filepath.Join(d.Path, name), err), d.Advice(err))
}

// Advice says what to do about an error of the operating system.
func (d Dir) Advice(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "mount the shared volume at " + d.Path + " (mountPoints in the task definition), or name another directory in --dir"
	case errors.Is(err, syscall.ENOTDIR):
		return "--dir takes the directory that holds the key files"
	case errors.Is(err, syscall.EROFS):
		return "mount the volume read-write in the sidecar's container (readOnly: false in its mountPoints), read-only in the others"
	case errors.Is(err, fs.ErrPermission) && d.InParent:
		return fmt.Sprintf("remove the directory, which the sidecar creates again, or chown it to %d", os.Getuid())
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("make the directory writable for uid %d: a tmpfs volume with %s, an image that declares VOLUME %s "+
			"owned by that uid, or chown %d on the host's directory", os.Getuid(), mountOptions(), d.Path, os.Getuid())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room in the volume: size=1m in the tmpfs's options has enough for every format"
	default:
		return "check the volume mounted at " + d.Path
	}
}

func (d Dir) obstacle(name string, mode fs.FileMode) error {
	kind := "not a regular file"
	switch {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode.IsDir():
		kind = "a directory"
	}
	path := filepath.Join(d.Path, name)
	return failure.New(keyfile.ClassFilesystem, fmt.Errorf("%s is %s", path, kind),
		"remove it: the sidecar replaces regular files only")
}

func (d Dir) notInMemory(fsType string) error {
	return failure.New(keyfile.ClassFilesystem,
		fmt.Errorf("%s is on %s, and --require-tmpfs allows tmpfs and ramfs only", d.Path, fsType),
		"mount a tmpfs volume there with "+mountOptions()+", or drop --require-tmpfs")
}
