package refresh

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A key is one key and what is known of it. Its fields belong to the one goroutine that looks at it.
type key struct {
	Key
	log *slog.Logger

	newest   candidate
	good     *keyfile.Key // what is on disk; nil before the first
	unproven bool         // good went on disk before Snowflake was reached, perhaps by a predecessor
	status   keyfile.Status
	situation
	behind   bool          // there is a newer one than good, which could not be fetched
	failing  time.Time     // since when
	looked   time.Time     // when SSM answered the last look, the same for all keys of that look
	interval time.Duration // at that time
	next     time.Time     // when to look again
}

// A candidate is what was fetched last: a key, or why it is none.
type candidate struct {
	revision ssm.Revision
	version  string
	stored   time.Time
	login    decrypt.Login
	key      *keyfile.Key
	refused  error
}

func newKey(o Key, log *slog.Logger) *key {
	k := &key{Key: o, log: log}
	if o.Name != "" {
		k.log = log.With("key", o.Name)
	}
	k.good, k.status = o.Dir.Left(o.Source)
	k.unproven = o.Verify != nil && k.good != nil && !lookedSincePublished(k.status)
	return k
}

// lookedSincePublished reports whether a look at the key on disk succeeded, which is noted after the key: if none did,
// or whoever published it was killed before any note, Snowflake's word may be wanting.
func lookedSincePublished(s keyfile.Status) bool {
	return !s.PublishedAt.IsZero() && !s.CheckedAt.Before(s.PublishedAt)
}

// claim makes sure of the directory before anything is published in any.
func (k *key) claim(ctx context.Context) error {
	if err := k.Dir.Create(); err != nil || k.Claim == nil {
		return err
	}
	return k.Claim(ctx)
}

// refuse is the end of a look at a directory that is not ours, whose status.json is left to whoever
// publishes there.
func (k *key) refuse(ctx context.Context, err error) Outcome {
	if ctx.Err() != nil {
		err = ctx.Err()
	} else {
		k.report(ctx, false, err)
	}
	return Outcome{Key: k.Name, Err: err, Status: k.status}
}

// take publishes what was fetched.
func (k *key) take(ctx context.Context, f ssm.Fetched) Outcome {
	published, err := k.publish(ctx, f)
	if ctx.Err() != nil && (err != nil || !published) {
		return Outcome{Key: k.Name, Err: ctx.Err(), Status: k.status} // told to stop: neither a success nor a failure
	}
	if err != nil && k.good != nil && failure.Class(err) != keyfile.ClassFilesystem {
		// The files may have gone with their volume; the last good key is still in memory.
		restored, restoreErr := k.Dir.Key(k.good)
		published = published || restored
		err = errors.Join(err, restoreErr)
	}
	err = k.record(ctx, published, err)
	unproven := k.unproven && k.newest.key.Equal(k.good) && failure.Class(err) == keyfile.ClassNetwork
	return Outcome{Key: k.Name, Published: published, Unproven: unproven, Err: err, Status: k.status}
}

func (k *key) publish(ctx context.Context, f ssm.Fetched) (published bool, err error) {
	if f.Err != nil {
		return false, f.Err
	}
	if f.Material != nil {
		k.newest = read(f.Material)
	}
	if k.newest.refused != nil {
		return false, k.newest.refused
	}
	newest := k.newest.key
	doubt := k.verify(ctx, newest)
	if doubt != nil && (ctx.Err() != nil || !k.publishesAnyway(newest, doubt)) { // an end is no word about Snowflake
		return false, doubt
	}
	published, err = k.Dir.Key(newest)
	if published || err == nil {
		// Once any file holds it there is no way back: the next look would only swap them again.
		k.hold(k.newest)
		k.unproven = doubt != nil
	}
	if err == nil {
		err = doubt
	}
	return published, err
}

// verify asks Snowflake about a key unless it is on disk with Snowflake's word.
func (k *key) verify(ctx context.Context, newest *keyfile.Key) error {
	if k.Verify == nil || newest.Equal(k.good) && !k.unproven {
		return nil
	}
	return k.Verify(ctx, newest, k.newest.login)
}

// publishesAnyway is for a task that would rather start while Snowflake is out of reach. A key that is on disk may be
// one that Snowflake accepts, also where nothing says so: no other takes its place unasked.
func (k *key) publishesAnyway(newest *keyfile.Key, doubt error) bool {
	return k.PublishUnproven && failure.Class(doubt) == keyfile.ClassNetwork && (k.good == nil || newest.Equal(k.good))
}

// hold notes that the candidate is on disk.
func (k *key) hold(c candidate) {
	if !c.key.Equal(k.good) || k.status.PublishedAt.IsZero() {
		k.status.PublishedAt = now()
	}
	k.good = c.key
	k.status.Fingerprint = c.key.Fingerprint()
	k.status.Version = c.version
	k.status.StoredAt = c.stored
}

// read keeps a refusal together with the revision: the same stored values need not be fetched and
// tried again.
func read(m *ssm.Material) candidate {
	defer m.Clear()
	key, err := decrypt.Key(m.Text, m.Passphrase)
	return candidate{revision: m.Revision, version: m.Version, stored: m.Stored, login: decrypt.LoginIn(m.Text), key: key, refused: err}
}

// record writes status.json and the log.
func (k *key) record(ctx context.Context, published bool, err error) error {
	k.status.Filesystem = k.Dir.Filesystem()
	k.status.LastError = nil
	if err == nil {
		k.status.CheckedAt = now()
	} else {
		k.status.LastError = &keyfile.Failure{Class: failure.Class(err), At: now()}
	}
	if statusErr := k.Dir.Status(k.status); err == nil {
		err = statusErr
	}
	k.report(ctx, published, err)
	return err
}
