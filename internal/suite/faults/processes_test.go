//go:build faults

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

func killed(w *world, s scenario) time.Duration {
	w.begin()
	w.sidecar.kill()
	w.rotate()
	w.queriesGoOn()
	queries := w.consumer.mark()
	began := time.Now()
	w.startSidecar()
	w.published()
	took := time.Since(began)
	w.adopted(queries)
	if !w.sidecar.said(0, `"started"`) {
		w.t.Error("the sidecar does not say that it has started")
	}
	return took
}

// startedWithoutSSM goes on with the key that is on disk.
func startedWithoutSSM(w *world, s scenario) time.Duration {
	w.begin()
	w.toSSM.set(way{refuse: true})
	w.sidecar.kill()
	w.startSidecar()
	w.fails(0, s.class, s.says, true)
	w.consumer.stop()
	if !w.consumer.said(0, "msg=stopped", "failures=0") {
		w.t.Errorf("queries failed:\n%s", strings.Join(w.failures(), "\n"))
	}
	w.startConsumer()
	w.adopted(0)
	w.rotate()
	queries := w.consumer.mark()
	w.toSSM.set(way{})
	took := w.published()
	w.adopted(queries)
	return took
}

func stopped(w *world, s scenario) time.Duration {
	w.begin()
	since := w.sidecar.mark()
	w.sidecar.signal(syscall.SIGSTOP)
	w.rotate()
	time.Sleep(5 * time.Second)
	if _, err := w.get("/livez"); err == nil {
		w.t.Error("a process that is stopped has answered")
	}
	if status, err := keyfile.ReadStatus(w.dir); err != nil || time.Since(status.CheckedAt) < 4*time.Second {
		w.t.Errorf("checked_at is %v, %v", status.CheckedAt, err)
	}
	w.queriesGoOn()
	queries := w.consumer.mark()
	w.sidecar.signal(syscall.SIGCONT)
	took := w.published()
	w.adopted(queries)
	w.quiet(since)
	return took
}

// outOfMemory has the sidecar start three times where it cannot live, with a valid key on disk.
func outOfMemory(w *world, s scenario) time.Duration {
	group, err := newGroup()
	if err != nil {
		cannot(w.t, err.Error())
	}
	w.t.Cleanup(func() { _ = os.Remove(group.path) })
	w.begin()
	w.sidecar.kill()
	w.rotate()
	group.limit(w, 3<<20)
	for range 3 {
		w.startSidecarIn(group)
		<-w.sidecar.done
		status, ok := w.sidecar.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || status.Signal() != syscall.SIGKILL {
			w.t.Fatalf("the sidecar ended with %v, not by the kernel's hand", w.sidecar.err)
		}
	}
	w.queriesGoOn()
	queries := w.consumer.mark()
	group.limit(w, 64<<20)
	began := time.Now()
	w.startSidecarIn(group)
	w.published()
	took := time.Since(began)
	w.adopted(queries)
	return took
}

func (w *world) startSidecarIn(g group) {
	w.t.Helper()
	script := fmt.Sprintf(`echo $$ > '%s/cgroup.procs' && exec '%s' run`, g.path, filepath.Join(binaries, w.program))
	w.sidecar = start(w.t, "/bin/sh", list(w.sidecarEnv), []string{"-c", script}, nil)
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

func (g group) limit(w *world, bytes int) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(g.path, g.file), fmt.Append(nil, bytes), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// More refreshes with a line each than find room: those that may wait in the program, and more than a page holds.
const (
	linesThatWait = 256
	linesInPipe   = 64
)

// onePage leaves a pipe as little room as the kernel allows.
func onePage(t *testing.T, pipe *os.File) {
	t.Helper()
	raw, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	err = raw.Control(func(fd uintptr) { _, refused = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, os.Getpagesize()) })
	if err = errors.Join(err, refused); err != nil {
		t.Fatal(err)
	}
}

func (w *world) refreshes() int {
	n, _ := strconv.Atoi(w.metric(`snowkey_refreshes_total{outcome="ok"}`))
	return n
}

// unread has the log go into a pipe that is full, and then some: what a log driver makes of it that takes no
// more lines.
func unread(w *world, s scenario) time.Duration {
	pipe := filepath.Join(w.t.TempDir(), "log")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		w.t.Fatal(err)
	}
	log, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { log.Close() })
	onePage(w.t, log)
	w.sidecarEnv["SNOWKEY_EMF"] = "app" // a line for each refresh
	w.program = filepath.Join(eager, "sidecar")
	w.sidecar = start(w.t, "/bin/sh", list(w.sidecarEnv), []string{"-c", `exec "$0" run 2>"$1"`, filepath.Join(binaries, w.program), pipe}, nil)
	w.startConsumer()
	w.adopted(0)
	w.readers = w.read()
	for w.refreshes() < linesThatWait+linesInPipe {
		before := w.refreshes()
		eventually(w.t, "one more refresh", func() bool {
			w.sidecar.signal(syscall.SIGHUP)
			return w.refreshes() > before
		})
	}
	queries := w.consumer.mark()
	w.rotate()
	took := w.published()
	w.adopted(queries)
	w.queriesGoOn()
	_ = log.SetReadDeadline(time.Now().Add(timeout))
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"msg":"lines of the log were lost"`) {
			return took
		}
	}
	w.t.Errorf("no line counts those that were lost: %v", lines.Err())
	return took
}

// withoutInotify has the consumer in a user namespace that may have no inotify instance. The limit of
// fs.inotify would be everybody's.
func withoutInotify(w *world, s scenario) time.Duration {
	needsNamespaces(w.t)
	w.startSidecar()
	w.published()
	script := `echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" -interval=50ms -workers=2`
	w.consumer = start(w.t, "/bin/sh", list(w.consumerEnv), []string{"-c", script, filepath.Join(binaries, w.application)}, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	})
	w.adopted(0)
	w.readers = w.read()
	if fds := w.openFiles(); strings.Contains(fds, "inotify") {
		w.t.Errorf("the consumer has got an inotify instance: %s", fds)
	}
	since := w.sidecar.mark()
	queries := w.consumer.mark()
	w.rotate()
	began := time.Now()
	w.adopted(queries)
	w.quiet(since)
	return time.Since(began)
}

// openFiles are what the consumer has open.
func (w *world) openFiles() string {
	w.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", w.consumer.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			all = append(all, target)
		}
	}
	return strings.Join(all, " ")
}
