//go:build faults

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/internal/tools/process/processtest"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var processScenarios = []scenario{
	{
		fault: "the sidecar is killed, and started again", operator: "exit code 137 of the container, then `started`",
		within: 10 * time.Second, run: killed,
	},
	{
		fault: "the sidecar is killed, and both programs are started again while SSM refuses connections", class: keyfile.ClassNetwork,
		says: "connection refused", within: 10 * time.Second, run: startedWithoutSSM,
	},
	{
		fault: "the sidecar is stopped for five seconds (SIGSTOP, SIGCONT)", operator: "`/livez` does not answer, and `checked_at` is old",
		within: 10 * time.Second, run: stopped,
	},
	{
		fault: "the sidecar's memory limit is too low for it to start, and is raised", operator: "exit code 137 of the container, OutOfMemoryError in ECS",
		within: 20 * time.Second, run: outOfMemory,
	},
	{
		fault: "the sidecar's log has no reader", operator: "`lines of the log were lost`, with their number, once it has one",
		within: 10 * time.Second, run: unread,
	},
	{
		fault: "the consumer gets no inotify instance", consumer: "nothing: the helper polls the file every five seconds",
		within: 15 * time.Second, run: withoutInotify,
	},
}

func killed(f *fixture, s scenario) time.Duration {
	f.begin()
	f.sidecar.Kill()
	f.rotate()
	f.queriesGoOn()
	queries := f.consumer.Mark()
	began := time.Now()
	f.startSidecar()
	f.published()
	took := time.Since(began)
	f.adopted(queries)
	if !f.sidecar.Said(0, `"started"`) {
		f.t.Error("the sidecar does not say that it has started")
	}
	return took
}

// startedWithoutSSM goes on with the key that is on disk.
func startedWithoutSSM(f *fixture, s scenario) time.Duration {
	f.begin()
	f.toSSM.set(way{refuse: true})
	f.sidecar.Kill()
	f.startSidecar()
	f.fails(0, s.class, s.says, true)
	f.consumer.Stop()
	if !f.consumer.Said(0, "msg=stopped", "failures=0") {
		f.t.Errorf("queries failed:\n%s", strings.Join(f.failures(), "\n"))
	}
	f.startConsumer()
	f.adopted(0)
	f.rotate()
	queries := f.consumer.Mark()
	f.toSSM.set(way{})
	took := f.published()
	f.adopted(queries)
	return took
}

func stopped(f *fixture, s scenario) time.Duration {
	f.begin()
	since := f.sidecar.Mark()
	f.sidecar.Signal(syscall.SIGSTOP)
	f.rotate()
	time.Sleep(5 * time.Second)
	if _, err := f.get("/livez"); err == nil {
		f.t.Error("a process that is stopped has answered")
	}
	if status, err := keyfile.ReadStatus(f.dir); err != nil || time.Since(status.CheckedAt) < 4*time.Second {
		f.t.Errorf("checked_at is %v, %v", status.CheckedAt, err)
	}
	f.queriesGoOn()
	queries := f.consumer.Mark()
	f.sidecar.Signal(syscall.SIGCONT)
	took := f.published()
	f.adopted(queries)
	f.quiet(since)
	return took
}

// outOfMemory has the sidecar start three times where it cannot live, with a valid key on disk.
func outOfMemory(f *fixture, s scenario) time.Duration {
	group, err := newGroup()
	if err != nil {
		cannot(f.t, err.Error())
	}
	f.t.Cleanup(func() { _ = os.Remove(group.path) })
	f.begin()
	f.sidecar.Kill()
	f.rotate()
	group.limit(f, 3<<20)
	for range 3 {
		f.startSidecarIn(group)
		<-f.sidecar.Done()
		status, ok := f.sidecar.State().Sys().(syscall.WaitStatus)
		if !ok || status.Signal() != syscall.SIGKILL {
			f.t.Fatalf("the sidecar ended with %v, not by the kernel's hand", f.sidecar.Err())
		}
	}
	f.queriesGoOn()
	queries := f.consumer.Mark()
	group.limit(f, 64<<20)
	began := time.Now()
	f.startSidecarIn(group)
	f.published()
	took := time.Since(began)
	f.adopted(queries)
	return took
}

func (f *fixture) startSidecarIn(g group) {
	f.t.Helper()
	script := fmt.Sprintf(`echo $$ > '%s/cgroup.procs' && exec '%s' run`, g.path, filepath.Join(binaries, f.program))
	f.sidecar = start(f.t, f.sidecarEnv, "/bin/sh", "-c", script)
}

// A group is a cgroup of version 1 or 2 that bounds memory.
type group struct{ path, file string }

func newGroup() (group, error) {
	var problems []error
	for _, g := range []group{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		path, err := os.MkdirTemp(g.path, "snowkey-faults-")
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if _, err = os.Stat(filepath.Join(path, g.file)); err == nil {
			return group{path, g.file}, nil
		}
		problems = append(problems, err, os.Remove(path))
	}
	return group{}, fmt.Errorf("no cgroup with a memory limit to be had here: %w", errors.Join(problems...))
}

func (g group) limit(f *fixture, bytes int) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(g.path, g.file), fmt.Append(nil, bytes), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// More refreshes with a line each than find room: those that may wait in the program, and more than a page holds.
const (
	linesThatWait = 256
	linesInPipe   = 64
)

func (f *fixture) refreshes() int {
	n, _ := strconv.Atoi(f.metric(`snowkey_refreshes_total{outcome="ok"}`))
	return n
}

// unread has the log go into a pipe that is full, and then some: what a log driver makes of it that takes no
// more lines.
func unread(f *fixture, s scenario) time.Duration {
	pipe := filepath.Join(f.t.TempDir(), "log")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		f.t.Fatal(err)
	}
	log, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { log.Close() })
	raw, err := log.SyscallConn()
	if err != nil {
		f.t.Fatal(err)
	}
	var refused error
	err = raw.Control(func(fd uintptr) { _, refused = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, os.Getpagesize()) })
	if err = errors.Join(err, refused); err != nil {
		f.t.Fatal(err)
	}
	f.sidecarEnv["SNOWKEY_EMF"] = "app" // a line for each refresh
	f.program = filepath.Join(eager, "sidecar")
	f.sidecar = start(f.t, f.sidecarEnv, "/bin/sh", "-c", `exec "$0" run 2>"$1"`, filepath.Join(binaries, f.program), pipe)
	f.startConsumer()
	f.adopted(0)
	f.readers = f.read()
	for f.refreshes() < linesThatWait+linesInPipe {
		before := f.refreshes()
		testenv.Eventually(f.t, "one more refresh", func() bool {
			f.sidecar.Signal(syscall.SIGHUP)
			return f.refreshes() > before
		})
	}
	queries := f.consumer.Mark()
	f.rotate()
	took := f.published()
	f.adopted(queries)
	f.queriesGoOn()
	_ = log.SetReadDeadline(time.Now().Add(time.Minute))
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"msg":"lines of the log were lost"`) {
			return took
		}
	}
	f.t.Errorf("no line counts those that were lost: %v", lines.Err())
	return took
}

// withoutInotify has the consumer in a user namespace that may have no inotify instance. The limit of
// fs.inotify would be everybody's.
func withoutInotify(f *fixture, s scenario) time.Duration {
	needsNamespaces(f.t)
	f.startSidecar()
	f.published()
	script := `echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" -interval=50ms -workers=2`
	cmd := exec.Command("/bin/sh", "-c", script, filepath.Join(binaries, f.application))
	cmd.Env = list(f.consumerEnv)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	f.consumer = processtest.Start(f.t, cmd)
	f.adopted(0)
	f.readers = f.read()
	if fds := f.openFiles(); strings.Contains(fds, "inotify") {
		f.t.Errorf("the consumer has got an inotify instance: %s", fds)
	}
	since := f.sidecar.Mark()
	queries := f.consumer.Mark()
	f.rotate()
	began := time.Now()
	f.adopted(queries)
	f.quiet(since)
	return time.Since(began)
}

// openFiles are what the consumer has open.
func (f *fixture) openFiles() string {
	f.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", f.consumer.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			all = append(all, target)
		}
	}
	return strings.Join(all, " ")
}
