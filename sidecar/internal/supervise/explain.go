package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// The exit codes of a shell and of Docker when a program cannot be run, or has ended by a signal.
const (
	notExecutable = 126
	notFound      = 127
	ExitSignal    = 128 // and the signal's number
)

// A StartError is why a command was not started. It prints as "cause; advice".
type StartError struct {
	Code   int // the exit code for it
	Advice string
	err    error
}

func (e *StartError) Error() string { return e.err.Error() + "; " + e.Advice }

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.err }

// Find gives the path of a program that can be run: name itself if there is a slash in it, or else
// where name is in path, a list as $PATH is. Its errors are *StartError.
func Find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, check(name)
	}
	var unusable error
	for _, dir := range filepath.SplitList(path) {
		if name == "" || !filepath.IsAbs(dir) {
			continue // the working directory must not decide which program runs
		}
		file := filepath.Join(dir, name)
		err := check(file)
		if err == nil {
			return file, nil
		}
		if unusable == nil && !errors.Is(err, fs.ErrNotExist) {
			unusable = err
		}
	}
	if unusable != nil {
		return "", unusable
	}
	return "", &StartError{notFound, "correct " + platform.Here().Command() + ", install the program in the image, or name it by its absolute path",
		fmt.Errorf("no program %q in PATH (%s)", name, path)}
}

func check(file string) error {
	if _, err := exec.LookPath(file); err != nil {
		return explain(file, err)
	}
	return nil
}

// explain says what to change when a program cannot be run.
func explain(file string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = syscall.EACCES // what LookPath says in words
	}
	cause, here := fmt.Errorf("%s: %w", file, errno), platform.Here()
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		if _, err := os.Stat(file); err == nil {
			return &StartError{notFound, "install the interpreter that its first line names after #!, or the loader that it was linked for (glibc or musl), in the image",
				fmt.Errorf("%s is there, but not what it is run with: %w", file, errno)}
		}
		return &StartError{notFound, "correct " + here.Command() + ", or put the program into the image", cause}
	case syscall.EISDIR:
		return &StartError{notExecutable, "name a program in " + here.Command(), cause}
	case syscall.EACCES, syscall.EPERM:
		return &StartError{notExecutable, fmt.Sprintf("make it executable for uid %d in the image (chmod 0755), run the container "+
			"as another %s, or take noexec from the mount that it is on", os.Getuid(), here.User()), cause}
	case syscall.ENOEXEC:
		return &StartError{notExecutable, fmt.Sprintf("build it for %s/%s, or set %s to what the "+
			"image was built for; a script begins with #! and its interpreter", runtime.GOOS, runtime.GOARCH, here.Architecture()), cause}
	case syscall.EAGAIN, syscall.ENOMEM:
		return &StartError{notExecutable, "raise " + here.Processes(), cause}
	default:
		return &StartError{notExecutable, "correct " + here.Command(), cause}
	}
}
