// Package refresh keeps a published key fresh: it looks at the source at once and then at every
// interval, publishes what changed, and after a failure tries again with growing, jittered pauses.
//
// It never gives up, never takes a good key away because a newer one is bad or the source is out of
// reach, and never looks more often than it is asked to.
package refresh

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
	"github.com/snowkey/snowkey/sidecar/internal/source"
)

// A Source gives the material of a key, or nil when it is unchanged since the known revision.
type Source interface {
	Fetch(ctx context.Context, known source.Revision) (*source.Material, error)
}

// Verify asks Snowflake whether it accepts a key, for the login that was stored with it, if one was.
type Verify func(context.Context, *keyfile.Key, decrypt.Login) error

// Options are what a Refresher works with.
type Options struct {
	Source          Source
	Name            string // of the source, for status.json
	Dir             publish.Dir
	Interval        time.Duration
	Claim           func(context.Context) error // nil: nobody else publishes there
	Verify          Verify                      // nil: publish without asking Snowflake
	PublishUnproven bool                        // publish a first key while Snowflake cannot be reached
	GiveUp          func(error) bool            // nil: never
	Observe         func(Outcome)               // nil: nobody counts
	Log             *slog.Logger
}

// An Outcome is what one look came to.
type Outcome struct {
	Published bool // a file had to be changed
	Unproven  bool // the newest key is on disk, and Err is why Snowflake has not accepted it yet
	Err       error
	Status    keyfile.Status
}

// A Refresher keeps one key fresh.
type Refresher struct {
	Options
	now chan struct{}

	// The fields below belong to the one goroutine that looks.
	newest   candidate
	good     *keyfile.Key // what is on disk; nil before the first
	unproven bool         // good went on disk before Snowflake was reached
	status   keyfile.Status
	failures int       // in a row
	failing  time.Time // since when
}

// A candidate is what was fetched last: a key, or why it is none.
type candidate struct {
	revision source.Revision
	version  string
	login    decrypt.Login
	key      *keyfile.Key
	refused  error
}

// New makes a Refresher that takes over what a predecessor left on disk.
func New(o Options) *Refresher {
	r := &Refresher{Options: o, now: make(chan struct{}, 1)}
	r.good, r.status = o.Dir.Left(o.Name)
	return r
}

// Now asks for a look as soon as possible. It does not wait, and many requests are one.
func (r *Refresher) Now() {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, or returns the error after which there is no use in looking again.
func (r *Refresher) Run(ctx context.Context) error {
	for {
		err := r.Look(ctx)
		if err != nil && r.GiveUp != nil && r.GiveUp(err) {
			return err
		}
		if !r.wait(ctx, r.pause(err)) {
			return nil
		}
	}
}

// wait reports whether ctx goes on.
func (r *Refresher) wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.now:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// Look fetches what changed and publishes it. It returns why the newest key is not on disk, nil if
// it is.
func (r *Refresher) Look(ctx context.Context) error {
	if r.Claim != nil {
		if err := r.Claim(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.report(ctx, false, err)
			r.observe(Outcome{Err: err, Status: r.status})
			return err // and leave status.json to whoever publishes
		}
	}
	published, err := r.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // told to stop: neither a success nor a failure
	}
	if err != nil && r.good != nil && failure.Class(err) != keyfile.ClassFilesystem {
		// The files may have gone with their volume; the last good key is still in memory.
		restored, restoreErr := r.Dir.Key(r.good)
		published = published || restored
		err = errors.Join(err, restoreErr)
	}
	err = r.record(ctx, published, err)
	r.observe(Outcome{Published: published, Unproven: r.unproven && r.newest.key.Equal(r.good), Err: err, Status: r.status})
	return err
}

func (r *Refresher) observe(o Outcome) {
	if r.Observe != nil {
		r.Observe(o)
	}
}

func (r *Refresher) look(ctx context.Context) (published bool, err error) {
	material, err := r.Source.Fetch(ctx, r.newest.revision)
	if err != nil {
		return false, err
	}
	if material != nil {
		r.newest = read(material)
	}
	if r.newest.refused != nil {
		return false, r.newest.refused
	}
	key := r.newest.key
	doubt := r.verify(ctx, key)
	if doubt != nil && !r.publishesAnyway(doubt) {
		return false, doubt
	}
	published, err = r.Dir.Key(key)
	if published || err == nil {
		// Once any file holds it there is no way back: the next look would only swap them again.
		r.hold(r.newest)
		r.unproven = doubt != nil
	}
	if err == nil {
		err = doubt
	}
	return published, err
}

// verify asks Snowflake about a key unless it is on disk with Snowflake's word.
func (r *Refresher) verify(ctx context.Context, key *keyfile.Key) error {
	if r.Verify == nil || key.Equal(r.good) && !r.unproven {
		return nil
	}
	return r.Verify(ctx, key, r.newest.login)
}

// publishesAnyway is for a task that would rather start while Snowflake is out of reach, until it has been
// reached once.
func (r *Refresher) publishesAnyway(doubt error) bool {
	return r.PublishUnproven && failure.Class(doubt) == keyfile.ClassNetwork && (r.good == nil || r.unproven)
}

// hold notes that the candidate is on disk.
func (r *Refresher) hold(c candidate) {
	if !c.key.Equal(r.good) || r.status.PublishedAt.IsZero() {
		r.status.PublishedAt = now()
	}
	r.good = c.key
	r.status.Fingerprint = c.key.Fingerprint()
	r.status.Version = c.version
}

// read keeps a refusal together with the revision: the same stored values need not be fetched and
// tried again.
func read(m *source.Material) candidate {
	defer m.Clear()
	key, err := decrypt.Key(m.Text, m.Passphrase)
	return candidate{revision: m.Revision, version: m.Version, login: decrypt.LoginIn(m.Text), key: key, refused: err}
}

// record writes status.json and the log.
func (r *Refresher) record(ctx context.Context, published bool, err error) error {
	r.status.Filesystem = publish.Filesystem(r.Dir.Path)
	r.status.LastError = nil
	if err == nil {
		r.status.CheckedAt = now()
	} else {
		r.status.LastError = &keyfile.Failure{Class: failure.Class(err), At: now()}
	}
	if statusErr := r.Dir.Status(r.status); err == nil {
		err = statusErr
	}
	r.report(ctx, published, err)
	return err
}

// now is the time as status.json has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
