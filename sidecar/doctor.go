package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/doctor"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

func doctorCommand(environ []string) *cobra.Command {
	var c config.DoctorConfig
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "find what is wrong, and print how to fix it",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return examine(cmd, &c)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func doctorPage() page {
	return page{
		about: "doctor checks everything between the parameters and the login to Snowflake, and prints a fix for each problem. " +
			"It changes nothing, and exits with 1 if a check failed. Give it the settings that the sidecar has.",
		examples: `# In the sidecar's container, whose environment has the settings
sidecar doctor

# On a laptop
SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER \
  sidecar doctor --key-parameter /app/key --passphrase-parameter /app/passphrase

# Only what failed
sidecar doctor --json --key-parameter /app/key | jq '.checks[] | select(.state == "fail")'`,
		settings: new(config.DoctorConfig), more: awsEnvironment, document: "troubleshooting.md",
	}
}

func examine(cmd *cobra.Command, c *config.DoctorConfig) error {
	connect := func(s config.Snowflake, stored decrypt.Login) *snowflake.Client { return s.Client(stored, version()) }
	report := doctor.Run(cmd.Context(), c, connect)
	if err := context.Cause(cmd.Context()); err != nil {
		return fmt.Errorf("stopped: %w", err)
	}
	write := report.Text
	if c.JSON {
		write = report.JSON
	}
	if err := write(cmd.OutOrStdout()); err != nil {
		return err
	}
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d checks failed", report.Failed, len(report.Checks))
	}
	return nil
}
