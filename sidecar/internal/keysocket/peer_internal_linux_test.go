package keysocket

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

func TestMayRead_AsTheModeSays(t *testing.T) {
	for _, tc := range []struct {
		mode   fs.FileMode
		uid    uint32
		groups []uint32
		want   bool
	}{
		{0o400, 0, nil, true},
		{0o400, 65532, nil, true},
		{0o400, 1000, []uint32{65532}, false},
		{0o440, 1000, []uint32{7, 65532}, true},
		{0o440, 1000, []uint32{7}, false},
		{0o444, 1000, nil, true},
		{0o440, 65532, []uint32{7}, true},
	} {
		if got := mayRead(tc.mode, 65532, 65532, tc.uid, tc.groups); got != tc.want {
			t.Errorf("mode %v, uid %d, groups %v: %v", tc.mode, tc.uid, tc.groups, got)
		}
	}
}

const readerVariable = "KEYSOCKET_TEST_READ"

// TestReader is no test: it is the program of another user that reads a socket.
func TestReader(t *testing.T) {
	path := os.Getenv(readerVariable)
	if path == "" {
		t.Skip("it is run by TestServe_OtherUsers")
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	content, err := io.ReadAll(conn)
	fmt.Printf("read %d bytes, %v\n", len(content), err)
}

// Neither the mode of the socket nor the sidecar lets another user in, even if another program has changed the mode.
func TestServe_OtherUsers(t *testing.T) {
	testenv.Slow(t)
	if os.Getuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	dir := t.TempDir()
	for _, open := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "reader")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last Read
	s := New(Options{Dir: dir, Formats: []keyfile.Format{keyfile.DER}, Mode: 0o440, Slots: NewSlots(), Log: slog.New(slog.DiscardHandler), OnRead: func(r Read) {
		mu.Lock()
		defer mu.Unlock()
		last = r
	}})
	defer s.Close()
	if _, err := s.Serve(testkey.Key(0)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keyfile.DER.SocketName())
	read := func(uid uint32, groups ...uint32) string {
		t.Helper()
		cmd := exec.Command(program, "-test.run=^TestReader$")
		cmd.Dir = "/"
		cmd.Env = []string{readerVariable + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 7, Groups: groups}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	whole := fmt.Sprintf("read %d bytes", len(keyfile.DER.Encode(testkey.Key(0))))
	if got := read(1000, 0); !strings.Contains(got, whole) { // the tests' own group, as a supplementary one
		t.Errorf("a user of the group: %s", got)
	}
	if got := read(1000, 1000); !strings.Contains(got, "permission denied") {
		t.Errorf("another user: %s", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := read(1000, 1000); !strings.Contains(got, "read 0 bytes") {
		t.Errorf("another user, through a socket that is open to all: %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if last.UID != 1000 || last.Refused == nil || !strings.Contains(last.Refused.Error(), "uid 1000 may not read the key") {
		t.Errorf("reported %+v", last)
	}
}
