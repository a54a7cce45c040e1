package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// healthcheckCommand reads the disk only. If health needed SSM, an outage there would make ECS replace every task that
// could have gone on with the key it has. It relies on what `run` has written there, since it does not see the flags of
// `run`.
func healthcheckCommand(environ []string) *cobra.Command {
	var c config.HealthcheckConfig
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "exit with 0 if a valid key is published",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load(cmd, &c, environ); err != nil {
				return err
			}
			return healthcheck(cmd.OutOrStdout(), c.Dir)
		},
	}
	config.AddFlags(cmd.Flags(), &c)
	ignoreFlagsOfRun(cmd.Flags())
	return cmd
}

func healthcheckPage() page {
	return page{
		about: "healthcheck exits with 0 while the directory has a valid key, and with 1 otherwise. It reads the disk only, never AWS, " +
			"and prints why the last refresh failed; on a terminal also the published key. The flags of run are accepted and ignored.",
		examples: `# In a task definition: "healthCheck": {"command": ["CMD", "/sidecar", "healthcheck"]}
sidecar healthcheck

# One of several keys
sidecar healthcheck --dir /run/snowflake/etl`,
		settings: new(config.HealthcheckConfig), document: "operations.md",
	}
}

// ignoreFlagsOfRun takes the flags of `run` and reads none of them: a task definition may give both commands the same ones.
func ignoreFlagsOfRun(flags *pflag.FlagSet) {
	ofRun := pflag.NewFlagSet("run", pflag.ContinueOnError)
	config.AddFlags(ofRun, new(config.RunConfig))
	ofRun.VisitAll(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) == nil {
			f.Hidden = true
			flags.AddFlag(f)
		}
	})
}

func healthcheck(out io.Writer, dir string) error {
	err := publish.Health(dir)
	printKeys(out, dir, err == nil && logwriter.IsTerminal(out))
	if err != nil {
		return fmt.Errorf("unhealthy: %w; the sidecar's log says why", err)
	}
	return nil
}

// printKeys says why the key on disk may be stale: an engine keeps what a check prints. A person also sees a key that is
// fresh.
func printKeys(out io.Writer, dir string, fresh bool) {
	s, err := keyfile.ReadStatus(dir)
	if err != nil {
		return
	}
	printKey(out, "", s, fresh)
	for _, name := range s.Keys {
		if s, err := keyfile.ReadStatus(filepath.Join(dir, name)); err == nil {
			printKey(out, "key "+name+": ", s, fresh)
		}
	}
}

// printKey prints a line about one key. prefix names it if there are several.
func printKey(out io.Writer, prefix string, s keyfile.Status, fresh bool) {
	published := ""
	if s.Fingerprint != "" {
		published = s.Fingerprint + " is published"
	}
	switch e := s.LastError; {
	case e == nil && published != "" && fresh:
		fmt.Fprintf(out, "%s%s, checked at %s\n", prefix, published, s.CheckedAt.Format(time.RFC3339))
	case e != nil && published != "":
		fmt.Fprintf(out, "%s%s; the refresh at %s failed: %s\n", prefix, published, e.At.Format(time.RFC3339), e.Class)
	case e != nil:
		fmt.Fprintf(out, "%sthe refresh at %s failed: %s\n", prefix, e.At.Format(time.RFC3339), e.Class)
	}
}
