package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// interval is the default of --interval, to which what is measured at another is scaled.
const interval = 5 * time.Minute

// A resident is a sidecar that runs.
type resident struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	dir    string
}

// reside starts `sidecar run` and waits for the keys in these directories below its own, or in that one.
func (w *fixture) reside(ctx context.Context, extra []string, names []string, flags ...string) (*resident, error) {
	dir, err := os.MkdirTemp(w.keys, "key-")
	if err != nil {
		return nil, err
	}
	r := &resident{dir: dir, cmd: exec.CommandContext(ctx, w.program("sidecar"), append([]string{"run", "--dir=" + dir}, flags...)...)}
	r.cmd.Env = append(w.environment(systemPath), extra...)
	r.cmd.Stderr = &r.stderr
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(time.Minute)
	for _, name := range names {
		for {
			if _, err := keyfile.Read(filepath.Join(dir, name, keyfile.DER.FileName())); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return nil, errors.Join(errors.New("no key after a minute"), r.stop())
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return nil, errors.Join(err, r.stop())
			}
		}
	}
	return r, nil
}

func (r *resident) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	err := r.cmd.Wait()
	_ = os.RemoveAll(r.dir)
	if err != nil {
		return fmt.Errorf("sidecar run: %w; it printed %s", err, &r.stderr)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// A usage is what a process has used so far.
type usage struct {
	processor time.Duration
	wakeups   int // times that a thread waited, and went on
}

func (u usage) since(before usage) usage {
	return usage{u.processor - before.processor, u.wakeups - before.wakeups}
}

// usage adds up the threads. None of Go's threads ends meanwhile.
func (r *resident) usage() (u usage, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", r.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return u, errors.Join(err, errors.New("the sidecar is gone"))
	}
	for _, thread := range threads {
		status, err := fields(filepath.Join(thread, "status"))
		if err != nil {
			return u, err
		}
		u.wakeups += status["voluntary_ctxt_switches"]
		schedule, err := os.ReadFile(filepath.Join(thread, "schedstat"))
		if err != nil {
			return u, err
		}
		var ran int64
		if _, err := fmt.Sscan(string(schedule), &ran); err != nil {
			return u, err
		}
		u.processor += time.Duration(ran)
	}
	return u, nil
}

// memory is what is resident, in bytes: all of it, its own, and the program's file.
func (r *resident) memory() (all, own, file int, err error) {
	status, err := fields(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	return status["VmRSS"] << 10, status["RssAnon"] << 10, status["RssFile"] << 10, err
}

// fields reads the numbers of a file of lines like "VmRSS:	 18028 kB".
func fields(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]int{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if n, err := strconv.Atoi(number); err == nil {
			all[name] = n
		}
	}
	return all, scanner.Err()
}

// An idle is a sidecar that waits for its next refresh.
type idle struct {
	all, own, file int // resident, in bytes
	window         time.Duration
	used           usage
	check          time.Duration // of the processor, for one health check
}

// idle watches one through a window in which it has nothing to do.
func (w *fixture) idle(ctx context.Context, settle, window time.Duration) (i idle, err error) {
	r, err := w.reside(ctx, nil, []string{""}, "--key-parameter="+keyParameter, "--passphrase-parameter="+passphraseParameter, "--interval=1000h")
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := pause(ctx, settle); err != nil {
		return i, err
	}
	if i.all, i.own, i.file, err = r.memory(); err != nil {
		return i, err
	}
	before, err := r.usage()
	if err != nil {
		return i, err
	}
	calls := len(w.ssm.Calls())
	if err := pause(ctx, window); err != nil {
		return i, err
	}
	after, err := r.usage()
	if err != nil {
		return i, err
	}
	if n := len(w.ssm.Calls()) - calls; n > 0 {
		return i, fmt.Errorf("it made %d calls while it was to be idle", n)
	}
	i.window, i.used = window, after.since(before)
	i.check, err = w.check(ctx, r)
	return i, err
}

// check is what a health check takes, the median of some.
func (w *fixture) check(ctx context.Context, r *resident) (time.Duration, error) {
	var all []time.Duration
	for range 21 {
		cmd := exec.CommandContext(ctx, w.program("sidecar"), "healthcheck", "--dir="+r.dir)
		cmd.Env = w.environment(systemPath)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("sidecar healthcheck: %w: %s", err, out)
		}
		all = append(all, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// A poll is what refreshes that find nothing new cost.
type poll struct {
	names, keys     int
	refreshes       int
	calls, decrypts int
	processor       time.Duration // for one
}

// poll has a sidecar refresh at a second's interval.
func (w *fixture) poll(ctx context.Context, names, refreshes int) (p poll, err error) {
	p = poll{names: names, keys: max(1, names/2)}
	environment, dirs := w.several(p)
	r, err := w.reside(ctx, environment, dirs, "--interval=1s")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := pause(ctx, time.Second/2); err != nil { // the first refresh is over
		return p, err
	}
	before, err := r.usage()
	if err != nil {
		return p, err
	}
	calls, decrypts := len(w.ssm.Calls()), w.ssm.Decrypts()
	for deadline := time.Now().Add(time.Duration(refreshes+1) * 3 * time.Second); p.refreshes < refreshes; {
		if time.Now().After(deadline) {
			return p, fmt.Errorf("no %d refreshes in %d seconds", refreshes, 3*refreshes)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return p, err
		}
		p.count(w.ssm.Calls()[calls:], refreshes)
	}
	if err := pause(ctx, time.Second/2); err != nil { // the last one is over
		return p, err
	}
	after, err := r.usage()
	if err != nil {
		return p, err
	}
	p.decrypts = w.ssm.Decrypts() - decrypts
	p.processor = after.since(before).processor / time.Duration(refreshes+1)
	return p, nil
}

// count takes the calls of so many whole refreshes, if there were as many: from one call for the first key to another.
func (p *poll) count(calls []localssm.Call, refreshes int) {
	var begins []int
	for i, c := range calls {
		if c.Names[0] == keyNumber(0) {
			begins = append(begins, i)
		}
	}
	if len(begins) > refreshes {
		p.refreshes, p.calls = refreshes, begins[refreshes]-begins[0]
	}
}

func keyNumber(n int) string { return fmt.Sprintf("%s/%d", keyParameter, n) }

// several stores as many keys, and gives the environment in which the sidecar finds them, and their
// directories.
func (w *fixture) several(p poll) (environment, dirs []string) {
	var lines []string
	sealed := w.ssm.Values(keyParameter)[0]
	for n := range p.keys {
		w.ssm.Put(keyNumber(n), sealed)
		w.ssm.Put(keyNumber(n)+"/passphrase", passphrase)
		name := fmt.Sprintf("k%d", n)
		dirs = append(dirs, name)
		lines = append(lines, fmt.Sprintf("name=%s,key-parameter=%s,passphrase-parameter=%s/passphrase", name, keyNumber(n), keyNumber(n)))
	}
	if p.names == 1 { // the passphrase comes from the environment
		return []string{"SNOWKEY_KEY_PARAMETER=" + keyNumber(0), "PRIVATE_KEY_PASSPHRASE=" + passphrase}, []string{""}
	}
	return []string{"SNOWKEY_KEYS=" + strings.Join(lines, "\n")}, dirs
}
