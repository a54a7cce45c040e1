package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// processorTime is what the process has used of it.
func (p *process) processorTime() time.Duration {
	p.t.Helper()
	_, rest, _ := strings.Cut(p.proc("stat"), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		p.must(err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func (p *process) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if os.IsPermission(err) {
		p.t.Skipf("the sidecar is closed to all but CAP_SYS_PTRACE: %v", err)
	}
	p.must(err)
	return len(entries)
}

// flood connects to all of these for so long, writes, and keeps as many connections open until hangUp.
func flood(network string, addresses []string, write string, most int, long time.Duration) (connected int, hangUp func()) {
	var mu sync.Mutex
	var all []net.Conn
	var clients sync.WaitGroup
	end := time.Now().Add(long)
	for i := range 8 {
		clients.Go(func() {
			for time.Now().Before(end) {
				conn, err := net.DialTimeout(network, addresses[i%len(addresses)], time.Until(end))
				if err != nil {
					continue
				}
				_, _ = io.WriteString(conn, write)
				mu.Lock()
				connected++
				if len(all) < most {
					all = append(all, conn)
					conn = nil
				}
				mu.Unlock()
				if conn != nil {
					conn.Close()
				}
			}
		})
	}
	clients.Wait()
	return connected, func() {
		for _, c := range all {
			c.Close()
		}
	}
}

// Not parallel: it is about time.
func TestLoad_Sockets(t *testing.T) {
	k := newTask(t)
	for _, name := range []string{"SNOWKEY_KEY_PARAMETER", "SNOWKEY_PASSPHRASE_PARAMETER"} {
		delete(k.env, name)
	}
	const keys, long = 12, 7 * time.Second
	var lines, sockets []string
	for i := range keys {
		lines = append(lines, fmt.Sprintf("name=k%d,key-parameter=%s,passphrase-parameter=%s", i, keyParameter, passParameter))
		sockets = append(sockets, filepath.Join(k.dir, fmt.Sprintf("k%d", i), keyfile.RefreshSocketName))
	}
	k.env["SNOWKEY_KEYS"] = strings.Join(lines, "\n")
	run := k.start("run", onDemand)
	for _, s := range sockets {
		run.eventually("the socket is there", func() bool { _, err := os.Stat(s); return err == nil })
	}
	time.Sleep(200 * time.Millisecond)
	calls, before, descriptors := len(k.calls(0)), run.processorTime(), run.descriptors()
	connected, hangUp := flood("unix", sockets, strings.Repeat("x", 4096), 4000, long)
	defer hangUp()
	used := run.processorTime() - before
	// At once, and after five seconds. All keys share the two parameters, and so a call.
	if n := len(k.calls(calls)); n < 1 || n > 2 {
		t.Errorf("%d connections in %v caused %d calls to SSM", connected, long, n)
	}
	t.Logf("%d connections to %d sockets in %v: %v of processor time", connected, keys, long, used)
	if used > long {
		t.Errorf("%v of processor time in %v", used, long)
	}
	if n := run.descriptors(); n > descriptors+4 {
		t.Errorf("%d descriptors are open, %d before", n, descriptors)
	}
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.signal(syscall.SIGHUP)
	run.eventually("the next key", func() bool {
		s, err := keyfile.ReadStatus(filepath.Join(k.dir, "k0"))
		return err == nil && s.Fingerprint == fingerprint(t, nextFingerprint)
	})
}

// Without free descriptors the process does not spin and the key stays on disk; with free ones it works again.
func TestLoad_OutOfDescriptors(t *testing.T) {
	k := newTask(t)
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	program := k.program
	k.program = "/bin/sh"
	run := k.start("-c", `ulimit -n 24 && exec "$0" run `+onDemand, program)
	run.follows(fingerprint(t, oldFingerprint))
	socket := filepath.Join(k.dir, keyfile.RefreshSocketName)
	run.eventually("the socket is there", func() bool { _, err := os.Stat(socket); return err == nil })
	before, snapshot := run.processorTime(), k.snapshot()
	const long = 3 * time.Second
	var floods sync.WaitGroup
	for _, f := range []struct{ network, address string }{{"tcp", k.env["SNOWKEY_METRICS_ADDR"]}, {"unix", socket}} {
		floods.Go(func() {
			_, hangUp := flood(f.network, []string{f.address}, "GET /livez HTTP/1.1\r\n", 300, long)
			hangUp()
		})
	}
	floods.Wait()
	if used := run.processorTime() - before; used > long {
		t.Errorf("%v of processor time in %v", used, long)
	}
	k.untouched(snapshot)
	run.eventually("it answers again", func() bool { status, _ := run.get("/livez"); return status == http.StatusOK })
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.refresh()
	run.follows(fingerprint(t, nextFingerprint))
}

func TestLoad_HTTP(t *testing.T) {
	k := newTask(t)
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	run := k.run()
	address, descriptors := k.env["SNOWKEY_METRICS_ADDR"], run.descriptors()
	_, hangUp := flood("tcp", []string{address}, "GET /readyz HTTP/1.1\r\nHost: x\r\nX-", 200, 2*time.Second)
	if n := run.descriptors(); n > descriptors+32+4 {
		t.Errorf("%d descriptors are open, %d before", n, descriptors)
	}
	k.ssm.Put(keyParameter, content(t, nextKey))
	run.refresh() // despite all connections
	run.follows(fingerprint(t, nextFingerprint))
	hangUp()
	_, hangUp = flood("tcp", []string{address}, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 0, time.Second)
	hangUp()
	run.refresh()
	run.eventually("it answers", func() bool { status, _ := run.get("/livez"); return status == http.StatusOK })
}
