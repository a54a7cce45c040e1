package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
)

// noArguments does not repeat the argument that it refuses: it may be a secret in the wrong place.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError("no such command; did you mean sidecar %s? sidecar --help lists the commands", near[0])
	}
	if name := switchBefore(cmd, args[0]); name != "" {
		return usageError("%s takes no arguments; write --%s=%s", cmd.Name(), name, args[0])
	}
	if cmd.HasSubCommands() {
		return usageError("no such command; sidecar --help lists the commands")
	}
	return usageError("%s takes no arguments, only flags; %s --help lists them", cmd.Name(), cmd.CommandPath())
}

func usageError(format string, args ...any) error {
	return config.UsageError{Err: fmt.Errorf(format, args...)}
}

// switchBefore is the switch that was given a value as an argument of its own, "" if there is none.
func switchBefore(cmd *cobra.Command, value string) (name string) {
	if value != "true" && value != "false" {
		return ""
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" {
			name = f.Name
		}
	})
	return name
}

// flagError names the flag and does not repeat its value, for the same reason. Of letters that are no flag it names the
// first.
func flagError(cmd *cobra.Command, err error) error {
	what := "malformed flag: write --name value or --name=value"
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		what = "no such flag: -" + e.GetSpecifiedName()
		if e.GetSpecifiedShortnames() == "" {
			what = "no such flag: --" + e.GetSpecifiedName()
			if near := nearestFlag(cmd.Flags(), e.GetSpecifiedName()); near != "" {
				what += "; did you mean --" + near + "?"
			}
		}
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		what = fmt.Sprintf("--%s needs a value", e.GetSpecifiedName())
	}
	of := cmd.CommandPath()
	if cmd.HasSubCommands() {
		of += " run"
	}
	return usageError("%s; %s --help lists the flags", what, of)
}

// nearestFlag is the flag that is misspelt by a letter or two, "" if there is none.
func nearestFlag(flags *pflag.FlagSet, name string) (near string) {
	least := 3
	flags.VisitAll(func(f *pflag.Flag) {
		if d := config.Distance(name, f.Name); d < least && !f.Hidden {
			least, near = d, f.Name
		}
	})
	return near
}

// checkSystem refuses commands that publish keys where key files have neither owners nor modes.
func checkSystem(command, system string) error {
	if command == "sidecar" {
		command = "run"
	}
	if system != "windows" || !slices.Contains([]string{"run", "once", "exec"}, command) {
		return nil
	}
	return usageError("%s is for Linux: Windows has no owners and modes to protect a key file with; "+
		"run the container image instead, with a volume at %s (docker run -v snowflake:%[2]s ...); keygen, rotate and doctor work here",
		command, keyfile.DefaultDir)
}

// load reads a command's settings, once: afterwards environ has no secret any more.
func load(cmd *cobra.Command, c config.Config, environ []string) error {
	if err := checkSystem(cmd.Name(), runtime.GOOS); err != nil {
		return err
	}
	if cmd.Name() != "exec" {
		harden.ForbidCore()
	}
	if err := config.Load(c, cmd.Flags(), environ); err != nil {
		return err
	}
	harden.Forget(environ, func(name string) bool { return config.IsSecret(c, name) }) // c has copies that can be cleared
	return nil
}
