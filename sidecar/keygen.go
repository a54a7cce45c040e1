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

func keygenPage() page {
	return page{
		about: "keygen makes an RSA key, writes it encrypted into files or, with --put, into Parameter Store, and prints its public " +
			"key with the ALTER USER statement that assigns it.",
		examples: `# Into Parameter Store, with a generated passphrase and no file
SNOWFLAKE_USER=APP_USER sidecar keygen --put --generate-passphrase --kms-key alias/app \
  --key-parameter /app/key --passphrase-parameter /app/passphrase

# Into rsa_key.p8 and rsa_key.pub; the terminal asks for a passphrase
sidecar keygen`,
		settings: new(config.KeygenConfig), more: awsEnvironment, document: "configuration.md",
	}
}
