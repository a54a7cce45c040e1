//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/internal/tools/build"
)

var write = flag.Bool("write", false, "write the table into docs/operations.md")

// The environment of the copy of this binary that is in namespaces of its own.
const (
	binariesVariable = "FAULTS_BINARIES" // where the sidecar and the consumer are
	outsideVariable  = "FAULTS_OUTSIDE"  // why it is not in namespaces
)

// binaries is the directory of the sidecar and the consumer, built once; outside is why there are no namespaces.
var binaries, outside string

func TestMain(m *testing.M) {
	flag.Parse()
	if dir, ok := os.LookupEnv(binariesVariable); ok {
		binaries, outside = dir, os.Getenv(outsideVariable)
		os.Exit(inside(m))
	}
	code, err := separate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		code = 1
	}
	os.Exit(code)
}

// separate builds what is tested and runs this binary again in namespaces of its own.
func separate() (code int, err error) {
	dir, err := os.MkdirTemp("", "snowkey-faults-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := build.Programs(context.Background(), dir, nil, "sidecar", "consumer"); err != nil {
		return 1, err
	}
	if err := buildWithJumpingClock(dir); err != nil {
		return 1, err
	}
	if err := buildEager(dir); err != nil {
		return 1, err
	}
	status, err := again(dir, namespaces(), "")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		reason := fmt.Sprintf("no user, mount and network namespace to be had here: %v", err)
		fmt.Println("faults:", reason)
		status, err = again(dir, nil, reason)
	}
	return status, err
}

// buildVariant builds programs with some source files in the place of others, or beside them.
func buildVariant(dir string, files map[string]string, programs ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	replace := map[string]string{}
	for path, text := range files {
		replace[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	return build.Programs(context.Background(), dir, []string{"-overlay", file}, programs...)
}

// namespaces map the caller, whatever its user, to root in them.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func again(dir string, attr *syscall.SysProcAttr, outside string) (code int, err error) {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), binariesVariable+"="+dir, outsideVariable+"="+outside)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// inside runs the tests.
func inside(m *testing.M) int {
	if outside == "" {
		if err := errors.Join(loopback(), syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			return 1
		}
	}
	return m.Run()
}

// loopback brings up the only interface that there is.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)
}

// needsNamespaces ends a test where it could change the machine.
func needsNamespaces(t *testing.T) {
	t.Helper()
	if outside != "" {
		cannot(t, outside)
	}
}

// cannot ends a test for which something is missing here. CI has everything.
func cannot(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("REQUIRE_EVERY_FAULT") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}
