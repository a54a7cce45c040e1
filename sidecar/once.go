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

func oncePage() page {
	return page{
		about: "once publishes the key as files, prints its fingerprint, and exits. Status 3 means that a retry cannot help.",
		examples: `# Publish the key of two parameters
sidecar once --key-parameter /app/key --passphrase-parameter /app/passphrase

# Only the PEM, in a directory of your own
sidecar once --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --dir "$HOME/snowflake" --formats pem --file-mode 0400`,
		settings: new(config.OnceConfig), more: awsEnvironment, document: "configuration.md",
	}
}
