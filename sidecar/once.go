package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// onceWithin bounds `once`: a call to SSM and one to Snowflake, each with its own limit.
const onceWithin = time.Minute

func onceCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "once",
		Short: "publish once, exit",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd, environ)
			if err != nil {
				return err
			}
			return once(cmd, c)
		},
	}
	config.AddFlags(cmd.Flags(), "key-parameter", "passphrase-parameter", "dir", "formats", "file-mode", "require-tmpfs", "verify", "verify-unreachable")
	return cmd
}

func once(cmd *cobra.Command, c *config.Config) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), onceWithin)
	defer cancel()
	// The result and the error are this command's output: it needs no log.
	options, err := refreshOptions(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var outcome refresh.Outcome
	options.Observe = func(o refresh.Outcome) { outcome = o }
	var look sync.WaitGroup
	var lookErr error
	look.Go(func() { lookErr = refresh.New(options).Look(ctx) })
	if !waitUntil(ctx, &look) || ctx.Err() != nil && lookErr != nil {
		return fmt.Errorf("stopped: %w; whether the key was published by then shows in %s", context.Cause(ctx), c.Dir)
	}
	if lookErr != nil && !outcome.Unproven {
		return refusedError{lookErr}
	}
	word := "published"
	if !outcome.Published {
		word = "unchanged"
	}
	if lookErr != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "sidecar: not verified:", lookErr)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s in %s (%s)\n", word, outcome.Status.Fingerprint, c.Dir, outcome.Status.Filesystem)
	return nil
}
