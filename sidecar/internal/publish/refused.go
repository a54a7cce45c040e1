package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// RefusedPrefix begins the name of the file that a sidecar leaves if another one has the lock.
const RefusedPrefix = "refused-"

// A refusal is the content of refused-PID-STARTED.json: which sidecar may not publish here because another one does.
// Each process has a file of its own, so that two do not overwrite each other's. The health check in its container
// reads it there, since status.json is the other sidecar's.
type refusal struct {
	Source string    `json:"source"` // of the refused sidecar; empty if it is not known
	Since  time.Time `json:"since"`
	process
}

// A process is one in the caller's PID namespace. A number alone is not enough: the kernel uses it again, and every
// container has a process 1.
type process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // as /proc/PID/stat has it; empty where there is none
}

func self() process { return process{os.Getpid(), startOf(os.Getpid())} }

func (p process) runs() bool { return p.Started != "" && p.Started == startOf(p.PID) }

// startOf is the time at which a process started, "" if there is none.
func startOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before may have spaces
	const start = 22 - 3                                            // as proc_pid_stat(5) counts, from the state on
	if len(fields) <= start {
		return ""
	}
	return string(fields[start])
}

// noteAfter is how long a refusal lasts before it is noted: a task often waits a moment for another to end.
const noteAfter = 10 * time.Second

func (p process) noteName() string {
	return fmt.Sprintf("%s%d-%s.json", RefusedPrefix, p.PID, p.Started)
}

// noteRefusal writes that file. If it cannot, the log still has the error.
func (p *Publisher) noteRefusal(source string) {
	content, err := json.Marshal(refusal{Source: source, Since: p.refusedSince.UTC().Truncate(time.Millisecond), process: self()})
	if err != nil {
		return
	}
	_ = p.put(file{self().noteName(), statusMode, append(content, '\n')})
}

// accept ends a refusal.
func (p *Publisher) accept(root *os.Root) {
	if p.refusedSince.IsZero() {
		return
	}
	p.refusedSince = time.Time{}
	_ = root.Remove(self().noteName())
}

// readRefusals returns the refusals of processes that run in this PID namespace.
func readRefusals(dir string) []refusal {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil
	}
	var all []refusal
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), RefusedPrefix) || !e.Type().IsRegular() {
			continue
		}
		var r refusal
		if data, err := root.ReadFile(e.Name()); err == nil && json.Unmarshal(data, &r) == nil && r.runs() {
			all = append(all, r)
		}
	}
	return all
}
