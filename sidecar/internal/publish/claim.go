package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// recordWithin bounds the wait for another sidecar to say what it publishes, which takes it milliseconds.
const recordWithin = 500 * time.Millisecond

// A Claim keeps two sidecars with different keys from replacing each other's in one directory for ever.
// It is a lock on the directory itself, which goes with the process whatever ends it.
//
// Sidecars with the same source share the lock, as tasks do for a while that follow each other on one
// host. The first has it for itself until status.json names its source, so that whoever finds it shared
// finds the source, too, however long the first look takes.
type Claim struct {
	Dir    Dir
	Source string // as in status.json

	held *os.File
}

// Hold claims the directory as it is now, unless it is held already. Its error names who has it; a
// directory that cannot be claimed at all is nobody's.
func (c *Claim) Hold(ctx context.Context) error {
	if c.Source == "" { // not known yet
		if c.Dir.Claimed() {
			return c.taken("")
		}
		return nil
	}
	if c.holds() {
		return nil
	}
	c.Release()
	dir, err := os.Open(c.Dir.Path)
	if err != nil {
		return nil //nolint:nilerr // whoever publishes there finds out, and says it
	}
	if err := c.take(ctx, dir); err != nil {
		dir.Close()
		return err
	}
	return nil
}

// take shares the lock, if the source is the same, and keeps dir open for that.
func (c *Claim) take(ctx context.Context, dir *os.File) error {
	for deadline := time.Now().Add(recordWithin); time.Now().Before(deadline); {
		if lock(dir, alone) {
			_ = c.Dir.CleanUp() // whoever publishes there finds out, and says it
			if c.record() != nil {
				dir.Close()
				return nil //nolint:nilerr // likewise
			}
		}
		if lock(dir, shared) {
			status, err := keyfile.ReadStatus(c.Dir.Path)
			if err != nil || status.Source != c.Source {
				return c.taken(status.Source)
			}
			c.held = dir
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return c.taken("")
}

// record has status.json name the source.
func (c *Claim) record() error {
	if status, err := keyfile.ReadStatus(c.Dir.Path); err == nil && status.Source == c.Source {
		return nil
	}
	_, status := c.Dir.Left(c.Source)
	return c.Dir.Status(status)
}

// holds reports whether the directory that stands at the path now is the one that was claimed: a volume
// may have been mounted anew.
func (c *Claim) holds() bool {
	if c.held == nil {
		return false
	}
	claimed, err := c.held.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(c.Dir.Path)
	return err == nil && os.SameFile(claimed, now)
}

// Claimed reports whether a process has a Claim on the directory. To find out it has the lock for itself for a
// moment, which a sidecar that starts just then waits for.
func (d Dir) Claimed() bool {
	dir, err := os.Open(d.Path)
	if err != nil {
		return false
	}
	defer dir.Close()
	return !lock(dir, alone)
}

// Release gives the lock up.
func (c *Claim) Release() {
	if c.held != nil {
		c.held.Close()
		c.held = nil
	}
}

// errTaken is in the errors that end with the other sidecar.
var errTaken = errors.New("another sidecar publishes")

// Taken reports whether err is that of a directory which another sidecar has claimed.
func Taken(err error) bool { return errors.Is(err, errTaken) }

func (c *Claim) taken(source string) error {
	what := "its key"
	if source != "" {
		what = source
	}
	return failure.New(keyfile.ClassFilesystem,
		fmt.Errorf("%w %s in %s", errTaken, what, c.Dir.Path),
		"give each sidecar a volume of its own, or a directory of its own with --dir")
}
