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
	if completes(args) {
		prepareCompletion(root)
	}
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
	withVersionFlag(root)
	root.SuggestionsMinimumDistance = 2
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), helpOf(cmd)) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { _, err := fmt.Fprint(cmd.OutOrStderr(), helpOf(cmd)); return err })
	add := func(group, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: group, Title: title})
		for _, c := range commands {
			c.GroupID = group
		}
		root.AddCommand(commands...)
	}
	add("task", "Commands for a task", runCommand(environ), onceCommand(environ), execCommand(environ), healthcheckCommand(environ))
	add("key", "Commands for its key", doctorCommand(environ), keygenCommand(environ), rotateCommand(environ))
	add("other", "Other commands", versionCommand(), completionCommand())
	root.SetHelpCommandGroupID("other")
	return root
}
