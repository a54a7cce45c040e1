package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// beListener makes this test binary a CMD that prints every signal it gets, by number.
const beListener = "TEST_BINARY_IS_A_LISTENER"

func init() {
	if os.Getenv(beListener) == "" {
		return
	}
	signals := make(chan os.Signal, 100)
	signal.Notify(signals)
	fmt.Println("listening")
	for s := range signals {
		fmt.Println("got", int(s.(syscall.Signal)))
	}
}

// listener is the command line for it. Its scheduler uses no SIGURG, so that each one came from outside.
func (k *task) listener() []string {
	return []string{"env", "-u", beSidecar, beListener + "=yes", "GODEBUG=asyncpreemptoff=1", k.program}
}

// sh is a command line that runs a script.
func sh(script string) []string { return []string{"sh", "-c", script} }

// exec starts `exec` with flags and CMD. The interval is the shortest there is, since the socket takes one request in
// five seconds, and CMD gets every SIGHUP.
func (k *task) exec(flags, command []string) *process {
	k.t.Helper()
	p := k.start(slices.Concat([]string{"exec", "--interval=1s"}, flags, []string{"--"}, command)...)
	k.t.Cleanup(func() { // CMD would outlive the sidecar
		var left []descendant // children and theirs
		all := processes()
		for parents := []int{p.PID()}; len(parents) > 0; parents = parents[1:] {
			for _, p := range all {
				if p.parent == parents[0] {
					left = append(left, p)
					parents = append(parents, p.pid)
				}
			}
		}
		p.Kill()
		for _, child := range left {
			_ = syscall.Kill(child.pid, syscall.SIGKILL)
		}
		p.wait()
	})
	return p
}

// says waits until CMD has written these words so many times.
func (p *process) says(words string, times int) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("CMD says %q %d times", words, times), func() bool {
		return strings.Count(p.stdout.String(), words) >= times
	})
}

// pid is the process id of the CMD that was started last.
func (p *process) pid() int {
	p.t.Helper()
	p.eventually("CMD is started", func() bool { return p.count("command started") > 0 })
	return p.last("command started").Pid
}

// rotate stores a key and waits until it is published.
func (p *process) rotate(key, fingerprintFile string) {
	p.t.Helper()
	p.ssm.Put(keyParameter, content(p.t, key))
	p.follows(fingerprint(p.t, fingerprintFile))
}

// refreshAgain waits for two refreshes: the second begins only after all that follows from the first.
func (p *process) refreshAgain() {
	p.t.Helper()
	for range 2 {
		before := p.refreshed()
		p.eventually("a refresh", func() bool { return p.refreshed().After(before) })
	}
}

// lastLine is what ECS shows last.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	return lines[len(lines)-1]
}

// A descendant is a process as /proc has it.
type descendant struct {
	pid, parent int
	zombie      bool
}

// processes are all that there are.
func processes() []descendant {
	var all []descendant
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		before, after, _ := strings.Cut(string(data), "(")
		fields := strings.Fields(after[strings.LastIndex(after, ")")+1:])
		pid, _ := strconv.Atoi(strings.TrimSpace(before))
		parent, _ := strconv.Atoi(fields[1])
		all = append(all, descendant{pid, parent, fields[0] == "Z"})
	}
	return all
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
