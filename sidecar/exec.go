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
