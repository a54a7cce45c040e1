package daemon

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/connections"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// runOptions are the options of a command that keeps refreshing, less often while SSM throttles.
func runOptions(ctx context.Context, c *config.RunConfig, o Options, r readers) (refresh.Options, error) {
	options, err := refreshOptions(ctx, &c.PublishSettings, c.Interval, o, r)
	if err != nil {
		return options, err
	}
	if source, ok := options.Source.(*ssm.Reader); ok {
		source.DisableThrottleRetry()
	}
	return options, nil
}

// refreshOptions makes a refresher's options from the settings that all publishing commands share.
func refreshOptions(ctx context.Context, c *config.PublishSettings, interval time.Duration, o Options, r readers) (refresh.Options, error) {
	source, handles, err := sourceOf(ctx, c.Keys, o.SSM)
	if err != nil {
		return refresh.Options{}, config.UsageError{Err: err}
	}
	options := refresh.Options{Source: source, Interval: interval, Immediate: o.Immediate, Log: o.Log}
	files, slots := connectionFiles(c), keysocket.NewSlots()
	for i, k := range c.Keys {
		dir := publish.New(directory(c, k, files, interval))
		if len(c.Serve) > 0 {
			dir.Server = keysocket.New(keysocket.Options{
				Dir: k.Dir, Formats: c.Serve, Mode: c.FileMode, Slots: slots, OnRead: r.of(k.Name), Stale: r.refresh, Log: o.Log,
			})
		}
		key := refresh.Key{Name: k.Name, Parameter: k.Source(), Handle: handles[i], Dir: dir}
		if files != nil {
			key.Connect = connector(k, dir)
		}
		if c.Verify {
			key.Verify, key.PublishUnverified = verifier(k.Snowflake, o.Build.Version), c.PublishUnverified
		}
		options.Keys = append(options.Keys, key)
	}
	if c.Keys[0].SecretKey.IsSet() {
		options.GiveUp = unusable
	}
	return options, nil
}

// sourceOf returns the source of the keys, with a handle for each of them; a key in SECRET_KEY has none.
func sourceOf(ctx context.Context, keys []config.Key, options ssm.Options) (refresh.Source, []*ssm.Key, error) {
	if only := keys[0]; only.KeyParameter == "" {
		return ssm.Environment{Text: only.SecretKey, Passphrase: only.Passphrase}, []*ssm.Key{nil}, nil
	}
	var handles []*ssm.Key
	for _, k := range keys {
		handle, err := ssm.NewKey(ssm.Parameters{Key: k.KeyParameter, Passphrase: k.PassphraseParameter, Given: k.Passphrase})
		if err != nil {
			return nil, nil, err
		}
		handles = append(handles, handle)
	}
	reader, err := ssm.NewReader(ctx, options, handles...)
	return reader, handles, err
}

// connectionFiles are the connection files that all keys share; nil without --connections.
func connectionFiles(c *config.PublishSettings) *publish.Connections {
	if !c.Connections {
		return nil
	}
	files := &publish.Connections{Mode: c.ConnectionsMode}
	for _, k := range c.Keys {
		files.Names = append(files.Names, cmp.Or(k.Name, connections.Default))
	}
	return files
}

func directory(c *config.PublishSettings, k config.Key, files *publish.Connections, interval time.Duration) publish.Dir {
	dir := publish.Dir{
		Path:         k.Dir,
		Formats:      c.Formats,
		Serve:        c.Serve,
		Mode:         c.FileMode,
		RequireTmpfs: c.RequireTmpfs && len(c.Formats) > 0, // without formats no key is on the file system
		Connections:  files,
		Interval:     interval,
	}
	if k.Name != "" {
		dir.InParent = true
		dir.Siblings = names(c.Keys)
	}
	return dir
}

// verifier logs in as the settings say. A managed secret fills in what they leave open.
func verifier(s config.Snowflake, version string) refresh.Verify {
	return func(ctx context.Context, key *keyfile.Key, stored decrypt.Login) error {
		client := s.Client(stored, version)
		if client.Account == "" || client.Login == "" {
			return unknownLogin(client, stored, "--verify logs in")
		}
		return client.Accepts(ctx, key)
	}
}

// connector writes the key's connection, once the login is known. A managed secret fills in what the settings leave open.
func connector(k config.Key, dir *publish.Publisher) func(*decrypt.Login) error {
	return func(stored *decrypt.Login) error {
		fetched := stored != nil
		if !fetched {
			stored = new(decrypt.Login)
		}
		c, known := k.Connection(*stored)
		if !known && !fetched {
			return nil // what a predecessor wrote stays until the secret has been fetched
		}
		if !known {
			return unknownLogin(k.Snowflake.Client(*stored, ""), *stored, "--connections names the user")
		}
		return dir.Connect(c)
	}
}

// unknownLogin is the error if neither the settings nor the secret name a valid login. why says what needs one.
func unknownLogin(client *snowflake.Client, stored decrypt.Login, why string) error {
	cause, advice := "the secret does not say whose key it is", "set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER, or store account and user beside privateKey"
	switch {
	case client.Account == "" && stored.InvalidAccount != "":
		cause, advice = "the account beside privateKey is invalid", stored.InvalidAccount+"; correct it there, or set SNOWFLAKE_ACCOUNT"
	case client.Login == "" && stored.InvalidUser != "":
		cause, advice = "the user beside privateKey is invalid", stored.InvalidUser+"; correct it there, or set SNOWFLAKE_USER"
	}
	return failure.New(keyfile.ClassUnreadableKey, errors.New(cause+", and "+why), advice)
}

// unusable reports whether a key from the environment cannot be used. It cannot change while the process runs.
func unusable(err error) bool {
	class := failure.Class(err)
	return class == keyfile.ClassUnreadableKey || class == keyfile.ClassPassphrase
}
