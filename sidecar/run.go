package main

import (
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/daemon"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/metrics"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

func runCommand(environ []string) *cobra.Command {
	var c config.RunConfig
	cmd := &cobra.Command{
		Use:   "run",
		Short: "publish the key and keep it fresh until SIGTERM (the default command)",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			log, flush := logwriter.New(cmd.ErrOrStderr(), c.LogFormat)
			defer flush()
			return daemon.Run(cmd.Context(), &c, daemonOptions(log))
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func runPage() page {
	return page{
		about: "run publishes the key as files, checks Parameter Store for a new one every --interval, and goes on until SIGTERM. " +
			"It is what sidecar does without a command.",
		examples: `# Keep the key fresh in /run/snowflake, as a task definition's environment would
SNOWKEY_KEY_PARAMETER=/app/key SNOWKEY_PASSPHRASE_PARAMETER=/app/passphrase sidecar run

# The same by flags, in another directory, with Prometheus metrics on loopback
sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --dir /tmp/snowflake --metrics-addr :9090

# Try a new key at Snowflake before it replaces the published one
SNOWFLAKE_ACCOUNT=ORGANIZATION-NAME SNOWFLAKE_USER=APP_USER \
  sidecar run --key-parameter /app/key --passphrase-parameter /app/passphrase --verify`,
		settings: new(config.RunConfig), more: awsEnvironment, document: "configuration.md",
	}
}

// signalGap is the time between two refreshes by SIGHUP, 0 for the usual one. Tests shorten it.
var signalGap time.Duration

// ssmOptions has SSM's defaults. Tests shorten the timeout.
var ssmOptions ssm.Options

func daemonOptions(log *slog.Logger) daemon.Options {
	build := metrics.Build{Version: version(), Revision: builtFrom()}
	return daemon.Options{Build: build, Log: log, SSM: ssmOptions, SignalGap: signalGap}
}
