package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// healthcheckCommand looks at the disk only. If health needed SSM, an outage there would have ECS
// replace every task that could have gone on with the key it has.
func healthcheckCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "exit 0 when a valid key is on disk",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd, environ)
			if err != nil {
				return err
			}
			var problems []error
			dirs := keyDirectories(c)
			for _, dir := range dirs {
				err := (publish.Dir{Path: dir, Formats: c.Formats}).Check()
				if err != nil {
					problems = append(problems, err)
				}
				name := ""
				if len(dirs) > 1 {
					name = "key " + filepath.Base(dir) + ": "
				}
				tellOfFailure(cmd.OutOrStdout(), name, dir, err == nil)
			}
			if err := errors.Join(problems...); err != nil {
				return fmt.Errorf("no valid key on disk: %w; the sidecar's log says why", err)
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags(), "dir", "formats", "key")
	return cmd
}

// tellOfFailure says why the newest key may not be the one on disk: an engine keeps what a check says.
func tellOfFailure(out io.Writer, name, dir string, onDisk bool) {
	s, err := keyfile.ReadStatus(dir)
	if err != nil || s.LastError == nil {
		return
	}
	if onDisk {
		name += s.Fingerprint + " is on disk; "
	}
	fmt.Fprintf(out, "%sthe look at %s failed: %s\n", name, s.LastError.At.Format(time.RFC3339), s.LastError.Class)
}

// keyDirectories are those of the keys in SNOWKEY_KEYS. The flags of `run` are not seen here: without that
// variable they are all that have a status.json, which `run` puts into each before it publishes in any.
// --dir may also name that of one key.
func keyDirectories(c *config.Config) []string {
	var known []string
	one, published := len(c.Keys) == 0, false
	for _, k := range c.Keys {
		dir := filepath.Join(c.Dir, k.Name)
		known = append(known, dir)
		one = one || k.Name == filepath.Base(c.Dir)
		published = published || isKeyDirectory(dir)
	}
	if one && !published && isKeyDirectory(c.Dir) { // if any is, what is above it was left by a sidecar of one key
		return []string{c.Dir}
	}
	if len(known) > 0 {
		return known
	}
	entries, _ := os.ReadDir(c.Dir) // if it cannot be read, no key in it can
	for _, e := range entries {
		if dir := filepath.Join(c.Dir, e.Name()); e.IsDir() && isKeyDirectory(dir) {
			known = append(known, dir)
		}
	}
	if len(known) > 0 {
		return known
	}
	return []string{c.Dir}
}

func isKeyDirectory(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, keyfile.StatusName))
	return err == nil
}
