//go:build kubernetes

package kubernetes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/build"
)

const (
	// Both are relative to this directory; make test-kubernetes makes them.
	kubeletPath = "../../../.cache/kubernetes/kubelet"
	imagesPath  = "../../../.cache/kubernetes/images.tar"

	// pluginsDir is where Debian has the programs that connect a pod to a network.
	pluginsDir = "/usr/lib/cni"

	// insideVariable names the directory with what the tests need, in the environment of the process in namespaces.
	insideVariable = "KUBERNETES_TEST_DIR"
)

// programs are in the directory that insideVariable names.
var programs = []string{"internal/local/localcloud", "internal/suite/kubernetes/pause"}

// missing is what this machine does not have; the tests that need a kubelet are skipped for it.
var missing error

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(insideVariable) != "":
		os.Exit(inside(m, os.Getenv(insideVariable)))
	case testing.Short():
		os.Exit(m.Run())
	}
	missing = whatIsMissing()
	if missing != nil && os.Getenv("REQUIRE_KUBELET") == "" {
		os.Exit(m.Run())
	}
	err := missing
	if err == nil {
		err = outside()
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func whatIsMissing() error {
	if os.Getuid() != 0 {
		return errors.New("only root can run a kubelet: run make test-kubernetes as root")
	}
	for program, pkg := range map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no %s: install Debian's %s", program, pkg)
		}
	}
	if _, err := os.Stat(filepath.Join(pluginsDir, "bridge")); err != nil {
		return errors.New("no network plugins: install Debian's containernetworking-plugins")
	}
	for _, path := range []string{kubeletPath, imagesPath} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: make test-kubernetes makes it", err)
		}
	}
	return nil
}

// outside runs this program once more, in namespaces of its own, with which every container and every mount ends.
func outside() (err error) {
	work, err := os.MkdirTemp("", "kubernetes-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	building, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := build.Programs(building, work, nil, programs...); err != nil {
		return err
	}
	if err := makeCgroups(); err != nil {
		return fmt.Errorf("no control groups for a kubelet: %w: end another run, or let root write %s", err, cgroupMount)
	}
	defer func() { err = errors.Join(err, removeCgroups()) }()

	runtime.LockOSThread() // the child gets its SIGKILL when this thread ends
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

func inside(m *testing.M, work string) int {
	if err := separate(work); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes: cannot make what belongs to the tests alone:", err)
		return 1
	}
	n, err := startNode(work)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes: no kubelet:", err)
		n.printLogs()
		return 1
	}
	theNode = n
	code := m.Run()
	if code != 0 {
		n.printLogs()
	}
	if err := n.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		return 1
	}
	return code
}

// theNode is what the tests have; nil where something is missing.
var theNode *node

// needNode skips a test without a kubelet.
func needNode(t *testing.T) *node {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	return theNode
}

// command runs a program and returns what it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
