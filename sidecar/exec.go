package main

import (
	"errors"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/exec"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// The main goroutine stays on the process's first thread, to which the kernel gives orphans.
func init() { runtime.LockOSThread() }

func execCommand(environ []string) *cobra.Command {
	var c config.ExecConfig
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD ARGS...",
		Short: "publish the key, run CMD, and keep the files fresh until it ends",
		Args:  commandLine,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			log, flush := logwriter.New(cmd.ErrOrStderr(), c.LogFormat)
			defer flush()
			return exec.Run(cmd.Context(), &c, args, environ, daemonOptions(log))
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func execPage() page {
	return page{
		about: "exec publishes the key, then runs CMD, and keeps the files fresh until CMD ends. It passes signals on, " +
			"reaps orphaned processes, and exits with CMD's status. Without a key it does not start CMD.",
		examples: `# Run a program in the same container, with the key on its tmpfs
sidecar exec --key-parameter /app/key --passphrase-parameter /app/passphrase -- python app.py

# Give up after two minutes without a key; restart the program when the key changes
sidecar exec --key-parameter /app/key --passphrase-parameter /app/passphrase \
  --start-timeout 2m --on-change restart -- python app.py`,
		settings: new(config.ExecConfig), more: awsEnvironment, document: "exec.md",
	}
}

// commandLine requires the dashes, so that a flag of CMD is never taken for one of the sidecar, or the other way round.
// Like noArguments it repeats nothing.
func commandLine(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return config.UsageError{Err: errors.New("no CMD: write sidecar exec [flags] -- CMD ARGS...; " + platform.Here().EntryPoint())}
	case cmd.ArgsLenAtDash() != 0:
		return config.UsageError{Err: errors.New("-- goes between the flags and CMD: sidecar exec [flags] -- CMD ARGS")}
	}
	return nil
}
