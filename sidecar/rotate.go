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

func rotatePage() page {
	return page{
		about: "rotate makes a new key, assigns it in Snowflake beside the old one, stores it as the parameter's next version, waits for " +
			"the grace period in which the tasks switch, and removes the old one. After an interruption run it again.\n\n" +
			"Each step is a line on stderr. The summary is one line of JSON on stdout.",
		examples: `# The login of all examples
export SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER

# Print the plan, change nothing
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase --dry-run

# Every day from a scheduler: rotate a key that is older than 30 days
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase --max-age 30d

# The key has leaked: replace it now, and when the tasks have switched, lock the old one out
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --force-new --no-wait
sidecar rotate --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --finish --revoke-old`,
		settings: new(config.RotateConfig), more: awsEnvironment, document: "rotation.md",
	}
}

// ignoreBrokenPipe lets a change complete after the reader of its output has gone. Without it a write into a broken pipe
// ends the process.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
