package main

import (
	"fmt"
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
			if err := (publish.Dir{Path: c.Dir, Formats: c.Formats}).Check(); err != nil {
				return fmt.Errorf("no valid key on disk: %w; the sidecar's log says why", err)
			}
			if s, err := keyfile.ReadStatus(c.Dir); err == nil && s.LastError != nil { // an engine keeps what it says
				fmt.Fprintf(cmd.OutOrStdout(), "%s is on disk; the look at %s failed: %s\n",
					s.Fingerprint, s.LastError.At.Format(time.RFC3339), s.LastError.Class)
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags(), "dir", "formats")
	return cmd
}
