package main

import (
	"context"
	"log/slog"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/source"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
)

// refreshOptions builds what the commands that publish have in common.
func refreshOptions(ctx context.Context, c *config.Config, log *slog.Logger) (refresh.Options, error) {
	o := refresh.Options{
		Source:   source.Environment{Text: c.SecretKey, Passphrase: c.Passphrase},
		Name:     "SECRET_KEY",
		Interval: c.Interval,
		Log:      log,
		Dir: publish.Dir{
			Path:         c.Dir,
			Formats:      c.Formats,
			Mode:         c.FileMode,
			RequireTmpfs: c.RequireTmpfs,
		},
	}
	if c.KeyParameter != "" {
		ssm, err := source.NewSSM(ctx, c.KeyParameter, c.PassphraseParameter, c.Passphrase)
		if err != nil {
			return o, usageError{err}
		}
		o.Source, o.Name = ssm, c.KeyParameter
	}
	if c.SecretKey.IsSet() {
		o.GiveUp = unusable
	}
	if c.Verify {
		o.Verify, o.PublishUnproven = verifier(c), c.PublishUnverified
	}
	o.Claim = (&publish.Claim{Dir: o.Dir, Source: o.Name}).Hold
	return o, nil
}

func verifier(c *config.Config) func(context.Context, *keyfile.Key) error {
	client := &sqlapi.Client{
		Account:   c.Snowflake.Account,
		User:      c.Snowflake.User,
		Role:      c.Snowflake.Role,
		Host:      c.Snowflake.Host,
		Port:      c.Snowflake.Port,
		Protocol:  c.Snowflake.Protocol,
		UserAgent: "snowkey/" + version(),
	}
	return client.Accepts
}

// unusable reports what is wrong with a key from the environment, which cannot change while the
// process runs.
func unusable(err error) bool {
	class := failure.Class(err)
	return class == keyfile.ClassUnreadableKey || class == keyfile.ClassPassphrase
}
