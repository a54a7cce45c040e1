package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// logInto sends the command's log into a pipe. The test has the other end, opened as flag says.
func (k *task) logInto(flag int, args ...string) (p *process, log *os.File) {
	k.t.Helper()
	pipe := filepath.Join(k.t.TempDir(), "log")
	k.must(unix.Mkfifo(pipe, 0o600))
	program := k.program
	k.program = "/bin/sh"
	p = k.start(append([]string{"-c", `exec "$0" "$@" 2>` + pipe, program}, args...)...)
	log, err := os.OpenFile(pipe, flag, 0)
	k.must(err)
	k.t.Cleanup(func() { log.Close() })
	return p, log
}

// A log driver that takes no more lines, such as awslogs in its blocking mode when CloudWatch is away.
func TestLog_UnreadBlocksNothing(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"run":  {"run", "--interval=1s", "--emf=app"},
		"exec": {"exec", "--interval=1s", "--emf=app", "--", "sleep", "60"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			p, log := k.logInto(os.O_RDWR, args...)
			_, err := unix.FcntlInt(log.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
			k.must(err)
			p.follows(fingerprint(t, oldFingerprint))
			full := func() bool {
				n, err := unix.IoctlGetInt(int(log.Fd()), unix.TIOCINQ)
				k.must(err)
				return n > os.Getpagesize()-1024
			}
			p.eventually("the pipe is full", full)
			time.Sleep(3 * time.Second) // for more lines than it takes
			k.ssm.Put(keyParameter, content(t, nextKey))
			p.follows(fingerprint(t, nextFingerprint))
			began := time.Now()
			p.end(syscall.SIGTERM)
			if took := time.Since(began); took > 9*time.Second { // ECS kills after ten
				t.Errorf("the end took %v", took)
			}
		})
	}
}

// The reader of the log has gone: the key stays fresh all the same.
func TestLog_WithoutReaderEndsNothing(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	run, log := k.logInto(os.O_RDONLY, "run", "--interval=1s", "--emf=app")
	run.follows(fingerprint(t, oldFingerprint))
	buffer := make([]byte, 4096)
	n, err := log.Read(buffer)
	k.must(err)
	if !strings.Contains(string(buffer[:n]), `"msg":"started"`) {
		t.Errorf("the log begins with %q", buffer[:n])
	}
	log.Close()
	time.Sleep(3 * time.Second) // some lines find no reader
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.follows(fingerprint(t, nextFingerprint))
	run.end(syscall.SIGTERM)
	run.want(exitDone)
}
