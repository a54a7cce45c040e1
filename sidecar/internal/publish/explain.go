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
	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

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
	here := platform.Here()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return here.Mount(d.Path) + ", or name another directory in --dir"
	case errors.Is(err, syscall.ENOTDIR):
		return "--dir takes the directory that holds the key files"
	case errors.Is(err, syscall.EROFS):
		return here.MountReadWrite()
	case errors.Is(err, fs.ErrPermission) && d.InParent:
		return fmt.Sprintf("remove the directory, which the sidecar creates again, or chown it to %d", os.Getuid())
	case errors.Is(err, fs.ErrPermission):
		return here.MakeWritable(d.Path, os.Getuid(), os.Getgid())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return here.MakeRoom()
	default:
		return "check the volume mounted at " + d.Path
	}
}

func (d Dir) conflict(name string, mode fs.FileMode) error {
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
		platform.Here().MountMemory(os.Getuid(), os.Getgid())+", or drop --require-tmpfs")
}
