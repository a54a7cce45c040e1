// Command sidecar fetches an encrypted Snowflake key from SSM Parameter Store, decrypts it, and keeps
// it as files in a directory that the task's other containers read.
//
// It never replaces a published key because of an error, never takes a secret from a flag, and never prints one.
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
	root := rootCommand(args, environ)
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

// groups are the commands in the order of the help.
var groups = []struct {
	id, title string
	commands  []subcommand
}{
	{"task", "Commands for a task", []subcommand{
		{"run", runCommand, runPage},
		{"once", onceCommand, oncePage},
		{"exec", execCommand, execPage},
		{"healthcheck", healthcheckCommand, healthcheckPage},
	}},
	{"key", "Commands for its key", []subcommand{
		{"doctor", doctorCommand, doctorPage},
		{"keygen", keygenCommand, keygenPage},
		{"rotate", rotateCommand, rotatePage},
	}},
	{"other", "Other commands", []subcommand{
		{"version", versionCommand, versionPage},
		{"completion", completionCommand, completionPage},
	}},
}

type subcommand struct {
	name string
	make func(environ []string) *cobra.Command
	page func() page // of its help
}

// rootCommand is `run` under another name: a container without arguments keeps the files fresh.
//
// If args begin with a command, only that one is made. Making the flags of all takes 3 % of a health check, which runs
// every few seconds.
func rootCommand(args, environ []string) *cobra.Command {
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
	only := commandIn(args)
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			if only == "" || c.name == only {
				cmd := c.make(environ)
				cmd.GroupID = g.id
				root.AddCommand(cmd)
			}
		}
	}
	root.SetHelpCommandGroupID("other")
	return root
}

// commandIn is the name of the command with which args begin, "" for none.
func commandIn(args []string) string {
	if len(args) == 0 {
		return ""
	}
	c, _ := commandNamed(args[0])
	return c.name
}

func commandNamed(name string) (c subcommand, known bool) {
	for _, g := range groups {
		for _, c := range g.commands {
			if c.name == name {
				return c, true
			}
		}
	}
	return subcommand{}, false
}
