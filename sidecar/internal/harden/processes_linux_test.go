package harden_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/build"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// imageUser is the user that the image runs as.
var imageUser = &syscall.Credential{Uid: 65532, Gid: 65532}

// beSpy makes this test binary the process of the same user that waits for a command of the sidecar to start.
const beSpy = "TEST_BINARY_IS_A_SPY"

func TestMain(m *testing.M) {
	if os.Getenv(beSpy) != "" {
		spy(os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// marker begins every secret of these tests.
const marker = "PRIVATE_KEY_PASSPHRASE=marked-"

// spy opens what /proc shows of each process as soon as it starts, and prints a line for what has a secret in it, or
// could be used to read one later.
func spy(out io.Writer) {
	fmt.Fprintln(out, "ready")
	seen := map[int]bool{}
	for self := os.Getpid(); ; {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid <= self || seen[pid] {
				continue
			}
			environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
			if !bytes.Contains(environ, []byte(marker)) {
				continue
			}
			seen[pid] = true
			fmt.Fprintln(out, "environ of", pid)
			if mem, err := os.Open(filepath.Join("/proc", e.Name(), "mem")); err == nil {
				mem.Close()
				fmt.Fprintln(out, "memory of", pid)
			}
		}
	}
}

// The race is real: the program, as another process of its user sees it start again and again.
func TestProcess_IsClosedBeforeItsFirstInstruction(t *testing.T) {
	testenv.Heavy(t)
	if os.Getuid() != 0 {
		t.Skip("only root gives a program to root and runs it as another user")
	}
	dir, err := os.MkdirTemp("", "sidecar-test-") // where another user can run this test binary
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), build.Programs(t.Context(), dir, nil, "sidecar")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "sidecar")

	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("mode 0755: of 20 starts %v gave something away", startUnderSpy(t, program, 20))

	if err := os.Chmod(program, 0o111); err != nil { // as the Dockerfile has it
		t.Fatal(err)
	}
	if found := startUnderSpy(t, program, 100); len(found) > 0 {
		t.Errorf("mode 0111: of 100 starts %v gave something away", found)
	}
}

// startUnderSpy counts what a spy got at, by kind.
func startUnderSpy(t *testing.T, program string, starts int) map[string]int {
	t.Helper()
	dir, err := os.MkdirTemp("", "sidecar-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "spy")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	spy := exec.CommandContext(t.Context(), path) // which ends it, whatever happens: it never sleeps
	spy.Env = []string{beSpy + "=1"}
	spy.SysProcAttr = &syscall.SysProcAttr{Credential: imageUser}
	out, err := spy.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := spy.Start(); err != nil {
		t.Skipf("no process of uid %d here: %v", imageUser.Uid, err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the spy has not started")
	}
	found, done := map[string]int{}, make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			kind, _, _ := strings.Cut(lines.Text(), " of ")
			found[kind]++
		}
	}()
	for i := range starts {
		victim := exec.Command(program, "healthcheck", "--dir=/nonexistent")
		victim.Env = []string{fmt.Sprint(marker, i)}
		victim.SysProcAttr = &syscall.SysProcAttr{Credential: imageUser}
		if out, err := victim.CombinedOutput(); !strings.Contains(string(out), "unhealthy") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	time.Sleep(100 * time.Millisecond) // for the line about the last one
	if err := spy.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-done
	_ = spy.Wait()
	return found
}
