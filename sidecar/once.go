package main

import (
	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/daemon"
)

func onceCommand(environ []string) *cobra.Command {
	var c config.OnceConfig
	cmd := &cobra.Command{
		Use:   "once",
		Short: "publish the key once, and exit",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return daemon.Once(cmd.Context(), &c, daemonOptions(nil), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}
