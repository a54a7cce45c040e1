// Command sidecar fetches an encrypted Snowflake key from SSM Parameter Store, decrypts it, and keeps
// it as files in a directory that the task's other containers read.
//
// docs/configuration.md lists its settings, docs/contract.md what it writes.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/exec"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

func main() {
	harden.Process()
	os.Exit(execute(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func execute(args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := supervise.NotifyContext()
	defer stop()
	root := rootCommand(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if _, ok := errors.AsType[exec.Status](err); err != nil && !ok { // CMD has printed its own
		fmt.Fprintln(stderr, "sidecar:", err)
	}
	return exitCode(err)
}

// rootCommand is `run` under another name: a container without arguments keeps the files fresh.
func rootCommand(environ []string) *cobra.Command {
	root := runCommand(environ)
	root.Use = "sidecar"
	root.Long = "sidecar publishes a Snowflake key that it fetches from SSM Parameter Store.\n" +
		"Without a command it does what `run` does.\n\n" + config.VariablesHelp(new(config.RunConfig))
	root.SuggestionsMinimumDistance = 2
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.AddCommand(runCommand(environ), onceCommand(environ), execCommand(environ), healthcheckCommand(environ),
		doctorCommand(environ), keygenCommand(environ), rotateCommand(environ), versionCommand())
	return root
}
