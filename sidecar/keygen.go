package main

import (
	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
)

func keygenCommand(environ []string) *cobra.Command {
	var c config.KeygenConfig
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "make a key pair; with --put, store it in Parameter Store",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			ignoreBrokenPipe()
			return keygen.Run(cmd.Context(), &c, ssmOptions, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}
