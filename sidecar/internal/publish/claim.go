package publish

import (
	"fmt"
	"os"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A Claim keeps two sidecars with different keys from replacing each other's in one directory for ever.
// It is a lock on the directory itself, which goes with the process whatever ends it.
//
// Two sidecars with the same source may share a directory, as tasks do for a while that follow each
// other on one host.
type Claim struct {
	Dir    Dir
	Source string // as in status.json

	held *os.File
}

// Hold claims the directory as it is now, unless it is held already. Its error names who has it; a
// directory that cannot be claimed at all is nobody's.
func (c *Claim) Hold() error {
	if c.holds() {
		return nil
	}
	c.release()
	dir, err := os.Open(c.Dir.Path)
	if err != nil {
		return nil //nolint:nilerr // whoever publishes there finds out, and says it
	}
	if lock(dir) {
		c.held = dir
		_ = c.Dir.CleanUp() // likewise
		return nil
	}
	dir.Close()
	status, err := keyfile.ReadStatus(c.Dir.Path)
	if err == nil && status.Source == c.Source {
		return nil
	}
	return c.taken(status.Source)
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

func (c *Claim) release() {
	if c.held != nil {
		c.held.Close()
		c.held = nil
	}
}

func (c *Claim) taken(source string) error {
	what := "its key"
	if source != "" {
		what = source
	}
	return failure.New(keyfile.ClassFilesystem,
		fmt.Errorf("another sidecar publishes %s in %s", what, c.Dir.Path),
		"give each sidecar a volume of its own, or a directory of its own with --dir")
}
