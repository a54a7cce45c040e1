//go:build kubernetes

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// address is the node's, and network that of its pods.
	address = "10.213.0.1"
	network = "10.213.0.0/24"
	bridge  = "pods"

	cgroupMount = "/sys/fs/cgroup"
	// cgroup is the kubelet's root in each hierarchy.
	cgroup = "snowkey-kubelet"
)

// privateDirs are where containerd and a kubelet write by default: each is in memory, and no other process sees it.
var privateDirs = []string{"/run", "/var/lib", "/var/log"}

// sysctls are those that a kubelet sets for the whole machine. It gets files in their place.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
	"kernel/keys/root_maxbytes",
}

// separate makes in new namespaces what a node has, and keeps the machine's own out of reach.
func separate(work string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range privateDirs {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, name := range sysctls {
		if err := replaceSysctl(work, name); err != nil {
			return err
		}
	}
	// A kubelet's mounts have to arrive in the containers that run already.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return makeNetwork()
}

func replaceSysctl(work, name string) error {
	path := filepath.Join("/proc/sys", name)
	value, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file := filepath.Join(work, strings.ReplaceAll(name, "/", "."))
	if err := os.WriteFile(file, value, 0o600); err != nil {
		return err
	}
	if err := syscall.Mount(file, path, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", path, err)
	}
	return nil
}

// makeNetwork makes the bridge to which the plugin of the same name connects the pods.
func makeNetwork() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", address + "/24", "dev", bridge},
		{"link", "set", bridge, "up"},
		{"route", "add", "default", "dev", bridge}, // a kubelet takes the node's address from the default route
	} {
		if _, err := command(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// hierarchies are those of cgroup 1, or the only one of cgroup 2.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return []string{cgroupMount}, nil
	}
	return filepath.Glob(filepath.Join(cgroupMount, "*"))
}

// makeCgroups makes the kubelet's root, also in place of one that a killed run has left.
func makeCgroups() error {
	if err := removeCgroups(); err != nil {
		return err
	}
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(filepath.Join(root, cgroup), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := openCgroup(root); err != nil {
			return err
		}
	}
	return nil
}

// openCgroup gives the root below a hierarchy what new groups lack: the controllers of cgroup 2, and the processors of
// cgroup 1.
func openCgroup(root string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err == nil && root == cgroupMount {
		for name := range strings.FieldsSeq(string(controllers)) {
			control := filepath.Join(root, "cgroup.subtree_control")
			if err := os.WriteFile(control, []byte("+"+name), 0); err != nil {
				return fmt.Errorf("enable the controller %s: %w", name, err)
			}
		}
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, cgroup, name), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups waits until the last process in them has gone.
func removeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err = nil
		for _, root := range roots {
			err = errors.Join(err, removeTree(filepath.Join(root, cgroup)))
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// removeTree removes directories from below. The files in a control group go with it.
func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, syscall.Rmdir(dir))
	}
	return err
}
