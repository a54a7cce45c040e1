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
		return config.UsageError{Err: fmt.Errorf("no such command; did you mean sidecar %s? sidecar --help lists the commands", near[0])}
	}
	return config.UsageError{Err: errors.New("no such command, and commands take no arguments; sidecar --help lists the commands")}
}

// flagError names the flag and does not repeat its value, for the same reason.
func flagError(err error) error {
	what := errors.New("a flag is not written as --flag value")
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		what = errors.New("no such flag")
		if name := e.GetSpecifiedName(); e.GetSpecifiedShortnames() == "" {
			what = fmt.Errorf("no such flag: --%s", name)
		}
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		what = fmt.Errorf("--%s needs a value", e.GetSpecifiedName())
	}
	return config.UsageError{Err: fmt.Errorf("%w; sidecar --help lists the flags", what)}
}

// checkSystem refuses commands that publish keys where key files have neither owners nor modes.
func checkSystem(command, system string) error {
	if command == "sidecar" {
		command = "run"
	}
	if system != "windows" || !slices.Contains([]string{"run", "once", "exec"}, command) {
		return nil
	}
	return config.UsageError{Err: fmt.Errorf("%s is for Linux: Windows has no owners and modes to protect a key file with; "+
		"run the container image instead, with a volume at %s (docker run -v snowflake:%[2]s ...); keygen, rotate and doctor work here",
		command, keyfile.DefaultDir)}
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
