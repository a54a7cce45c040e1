package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// callsToSSM has SSM's defaults, but for tests.
var callsToSSM ssm.Options

// loopOptions are those of a command that refreshes again and again, and less often while SSM throttles.
func loopOptions(ctx context.Context, c *config.RunConfig, log *slog.Logger) (refresh.Options, error) {
	o, err := refreshOptions(ctx, &c.OnceConfig, c.Interval, log)
	if err != nil {
		return o, err
	}
	if r, ok := o.Source.(*ssm.Reader); ok {
		r.DisableThrottleRetry()
	}
	return o, nil
}

// refreshOptions builds what the commands that publish have in common.
func refreshOptions(ctx context.Context, c *config.OnceConfig, interval time.Duration, log *slog.Logger) (refresh.Options, error) {
	o := refresh.Options{Interval: interval, Log: log}
	source, handles, err := sourceOf(ctx, c.Keys)
	if err != nil {
		return o, config.UsageError{Err: err}
	}
	o.Source = source
	for i, k := range c.Keys {
		key := refreshKey(c, k, interval)
		key.Handle = handles[i]
		o.Keys = append(o.Keys, key)
	}
	if c.Keys[0].SecretKey.IsSet() {
		o.GiveUp = unusable
	}
	return o, nil
}

func sourceOf(ctx context.Context, keys []config.Key) (refresh.Source, []*ssm.Key, error) {
	var handles []*ssm.Key
	for _, k := range keys {
		if k.KeyParameter == "" { // which is alone
			return ssm.Environment{Text: k.SecretKey, Passphrase: k.Passphrase}, []*ssm.Key{nil}, nil
		}
		handle, err := ssm.NewKey(ssm.Parameters{Key: k.KeyParameter, Passphrase: k.PassphraseParameter, Given: k.Passphrase})
		if err != nil {
			return nil, nil, err
		}
		handles = append(handles, handle)
	}
	reader, err := ssm.NewReader(ctx, callsToSSM, handles...)
	return reader, handles, err
}

func refreshKey(c *config.OnceConfig, k config.Key, interval time.Duration) refresh.Key {
	dir := publish.Dir{
		Path:         k.Dir,
		Formats:      c.Formats,
		Mode:         c.FileMode,
		RequireTmpfs: c.RequireTmpfs,
		Interval:     interval,
	}
	if k.Name != "" {
		dir.InParent = true
		for _, sibling := range c.Keys {
			dir.Siblings = append(dir.Siblings, sibling.Name)
		}
	}
	r := refresh.Key{Name: k.Name, Parameter: k.Source(), Dir: publish.New(dir)}
	if c.Verify {
		r.Verify, r.PublishUnverified = verifier(k.Snowflake), c.PublishUnverified
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
