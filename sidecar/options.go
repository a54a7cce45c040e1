package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
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

// verifier logs in as the settings say, and where they are silent as the secret says that holds the key.
func verifier(c *config.Config) refresh.Verify {
	return func(ctx context.Context, key *keyfile.Key, stored decrypt.Login) error {
		client := &sqlapi.Client{
			Account:   cmp.Or(c.Snowflake.Account, stored.Account),
			User:      cmp.Or(c.Snowflake.User, stored.User),
			Role:      c.Snowflake.Role,
			Host:      c.Snowflake.Host,
			Port:      c.Snowflake.Port,
			Protocol:  c.Snowflake.Protocol,
			UserAgent: "snowkey/" + version(),
		}
		if client.Account == "" || client.User == "" {
			return failure.New(keyfile.ClassUnreadableKey, errors.New("the secret does not say whose key it is, and --verify logs in"),
				"set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER, or store account and user beside privateKey")
		}
		return client.Accepts(ctx, key)
	}
}

// unusable reports what is wrong with a key from the environment, which cannot change while the
// process runs.
func unusable(err error) bool {
	class := failure.Class(err)
	return class == keyfile.ClassUnreadableKey || class == keyfile.ClassPassphrase
}
