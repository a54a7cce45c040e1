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

// loopOptions are those of a command that looks again and again, and less often when SSM throttles.
func loopOptions(ctx context.Context, c *config.Config, log *slog.Logger) (refresh.Options, error) {
	o, err := refreshOptions(ctx, c, log)
	if err != nil {
		return o, err
	}
	if s, ok := o.Source.(*source.SSM); ok {
		s.LeaveThrottling()
	}
	return o, nil
}

// refreshOptions builds what the commands that publish have in common.
func refreshOptions(ctx context.Context, c *config.Config, log *slog.Logger) (refresh.Options, error) {
	o := refresh.Options{Interval: c.Interval, Log: log}
	for _, k := range c.Keys {
		o.Keys = append(o.Keys, refreshKey(c, k))
	}
	var err error
	if o.Source, err = sourceOf(ctx, c.Keys); err != nil {
		return o, usageError{err}
	}
	if c.SecretKey.IsSet() {
		o.GiveUp = unusable
	}
	return o, nil
}

func sourceOf(ctx context.Context, keys []config.Key) (refresh.Source, error) {
	var parameters []source.Parameters
	for _, k := range keys {
		if k.KeyParameter == "" { // which is alone
			return source.Environment{Text: k.SecretKey, Passphrase: k.Passphrase}, nil
		}
		parameters = append(parameters, source.Parameters{Key: k.KeyParameter, Passphrase: k.PassphraseParameter, Given: k.Passphrase})
	}
	return source.NewSSM(ctx, parameters...)
}

func refreshKey(c *config.Config, k config.Key) refresh.Key {
	dir := publish.Dir{
		Path:         k.Dir,
		Made:         k.Name != "",
		Formats:      c.Formats,
		Mode:         c.FileMode,
		RequireTmpfs: c.RequireTmpfs,
	}
	r := refresh.Key{
		Name:   k.Name,
		Source: k.Source(),
		Dir:    dir,
		Claim:  (&publish.Claim{Dir: dir, Source: k.Source()}).Hold,
	}
	if c.Verify {
		r.Verify, r.PublishUnproven = verifier(k.Snowflake), c.PublishUnverified
	}
	return r
}

// verifier logs in as the settings say, and where they are silent as the secret says that holds the key.
func verifier(s config.Snowflake) refresh.Verify {
	return func(ctx context.Context, key *keyfile.Key, stored decrypt.Login) error {
		client := snowflake(s, stored)
		if client.Account == "" || client.User == "" {
			return failure.New(keyfile.ClassUnreadableKey, errors.New("the secret does not say whose key it is, and --verify logs in"),
				"set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER, or store account and user beside privateKey")
		}
		return client.Accepts(ctx, key)
	}
}

func snowflake(s config.Snowflake, stored decrypt.Login) *sqlapi.Client {
	return &sqlapi.Client{
		Account:   cmp.Or(s.Account, stored.Account),
		User:      cmp.Or(s.User, stored.User),
		Role:      s.Role,
		Host:      s.Host,
		Port:      s.Port,
		Protocol:  s.Protocol,
		UserAgent: "snowkey/" + version(),
	}
}

// unusable reports what is wrong with a key from the environment, which cannot change while the
// process runs.
func unusable(err error) bool {
	class := failure.Class(err)
	return class == keyfile.ClassUnreadableKey || class == keyfile.ClassPassphrase
}
