package main

import (
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/rotate"
)

// Of a rotation: how long its lease lasts, and how long it retries what may pass; 0 for the usual. Tests shorten them.
var rotationLease, rotationRetry time.Duration

func rotateCommand(environ []string) *cobra.Command {
	var c config.RotateConfig
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "replace the key while the tasks run, or complete a rotation",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			ignoreBrokenPipe()
			inputs := rotate.Inputs{SSM: ssmOptions, Version: version(), Lease: rotationLease, RetryFor: rotationRetry}
			return rotate.Command(cmd.Context(), &c, inputs, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

// ignoreBrokenPipe lets a change complete after the reader of its output has gone. Without it a write into a broken pipe
// ends the process.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
