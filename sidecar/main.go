// Command sidecar fetches an encrypted Snowflake key from SSM Parameter Store, decrypts it, and keeps
// it as files in a directory that the task's other containers read.
//
// docs/configuration.md lists its settings, docs/contract.md what it writes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/rotate"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// The exit codes. Those of `exec` are CMD's own from its start on, and before it also a shell's.
const (
	exitDone    = 0 // also after SIGTERM
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // `once`, `exec`, `rotate`: trying again cannot help until somebody changes something
)

func main() {
	harden.Process()
	os.Exit(execute(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func execute(args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := untilStopped()
	defer stop()
	root := rootCommand(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if status, ok := errors.AsType[commandStatus](err); ok {
		return int(status) // what there was to say CMD has said
	}
	if err != nil {
		fmt.Fprintln(stderr, "sidecar:", err)
	}
	return exitCode(err)
}

// A caughtError is the signal that ended a command's context. Like signal.NotifyContext's it is a
// cancellation; unlike that one it says which signal it was.
type caughtError struct{ signal syscall.Signal }

func (e caughtError) Error() string { return unix.SignalName(e.signal) + " received" }

func (e caughtError) Is(target error) bool { return target == context.Canceled }

// untilStopped is a context that SIGTERM or SIGINT ends, with a caughtError as its cause.
func untilStopped() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		select {
		case s := <-signals:
			cancel(caughtError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// A refusedError is for `once`, `exec` and `rotate`, which can tell their caller whether to try again.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[config.UsageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[refusedError](err); ok && (failure.ForGood(err) || rotate.ForGood(err)) {
		return exitRefused
	}
	if e, ok := errors.AsType[*supervise.StartError](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[stoppedError](err); ok {
		return supervise.ExitSignal + int(e.signal)
	}
	return exitFailed
}

// rootCommand is `run` under another name: a container without arguments keeps the files fresh.
func rootCommand(environ []string) *cobra.Command {
	root := runCommand(environ)
	root.Use = "sidecar"
	root.Long = "sidecar keeps a Snowflake key on disk that it fetches from SSM Parameter Store.\n" +
		"Without a command it does what `run` does.\n\n" + config.VariablesHelp(new(config.RunConfig))
	root.SuggestionsMinimumDistance = 2
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.AddCommand(runCommand(environ), onceCommand(environ), execCommand(environ), healthcheckCommand(environ), doctorCommand(environ), keygenCommand(environ), rotateCommand(environ), versionCommand())
	return root
}

// noArguments does not repeat what it refuses: it may be a secret that somebody tried to hand over.
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

// load reads the settings, once: environ has no secret any more after it.
func load(cmd *cobra.Command, c config.Config, environ []string) error {
	if cmd.Name() != "exec" {
		harden.ForbidCore()
	}
	if err := config.Load(c, cmd.Flags(), environ); err != nil {
		return err
	}
	harden.Forget(environ, config.IsSecret) // c has copies that can be cleared
	return nil
}
