package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// onceWithin bounds `once`: a call to SSM and one to Snowflake, each with its own limit.
const onceWithin = time.Minute

func onceCommand(environ []string) *cobra.Command {
	var c config.OnceConfig
	cmd := &cobra.Command{
		Use:   "once",
		Short: "publish once, exit",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return once(cmd, &c)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	return cmd
}

func once(cmd *cobra.Command, c *config.OnceConfig) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), onceWithin)
	defer cancel()
	// The result and the error are this command's output: it needs no log.
	options, err := refreshOptions(ctx, c, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var outcomes []refresh.Outcome
	var running sync.WaitGroup
	running.Go(func() { outcomes = refresh.New(options).RefreshOnce(ctx) })
	if !waitUntil(ctx, &running) {
		return stoppedOnce(ctx, c)
	}
	inOrder(outcomes, options.Keys)
	err = failed(outcomes)
	if err != nil && ctx.Err() != nil {
		return stoppedOnce(ctx, c)
	}
	for i, o := range outcomes {
		tellOf(cmd, o, options.Keys[i].Dir.String())
	}
	return err
}

func stoppedOnce(ctx context.Context, c *config.OnceConfig) error {
	return fmt.Errorf("stopped: %w; whether the key was published by then shows in %s", context.Cause(ctx), c.Dir)
}

// inOrder sorts outcomes, which come as they come, like the keys.
func inOrder(outcomes []refresh.Outcome, keys []refresh.Key) {
	place := func(o refresh.Outcome) int {
		return slices.IndexFunc(keys, func(k refresh.Key) bool { return k.Name == o.Key })
	}
	slices.SortFunc(outcomes, func(a, b refresh.Outcome) int { return place(a) - place(b) })
}

// tellOf says what has become of a key that is on disk.
func tellOf(cmd *cobra.Command, o refresh.Outcome, dir string) {
	if o.Err != nil && !o.Unverified {
		return
	}
	word := "published"
	if !o.Published {
		word = "unchanged"
	}
	if o.Err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "sidecar: not verified:", ofKey(o.Key, o.Err))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s in %s (%s)\n", word, o.Status.Fingerprint, dir, o.Status.Filesystem)
}

// failed is why keys are not on disk. Only if that is so for good with every one of them it is refused:
// trying again helps the others.
func failed(outcomes []refresh.Outcome) error {
	var problems []error
	forGood := true
	for _, o := range outcomes {
		if o.Err == nil || o.Unverified {
			continue
		}
		problems = append(problems, ofKey(o.Key, o.Err))
		forGood = forGood && failure.ForGood(o.Err)
	}
	if len(problems) == 0 {
		return nil
	}
	err := problems[0]
	if len(problems) > 1 {
		err = severalErrors{of: len(outcomes), all: problems}
	}
	if forGood {
		return refusedError{err}
	}
	return err
}

// severalErrors are those of several keys.
type severalErrors struct {
	of  int // keys
	all []error
}

func (e severalErrors) Error() string {
	lines := make([]string, len(e.all))
	for i, err := range e.all {
		lines[i] = "\n  - " + err.Error()
	}
	return fmt.Sprintf("%d of %d keys failed:%s", len(e.all), e.of, strings.Join(lines, ""))
}

func (e severalErrors) Unwrap() []error { return e.all }

// ofKey names the key, if there are others.
func ofKey(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("key %s: %w", name, err)
}
