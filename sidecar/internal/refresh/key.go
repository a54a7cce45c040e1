package refresh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh/schedule"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// pairTimeout is how long a passphrase may not fit a key that was just changed: the two parameters cannot be changed
// together.
const pairTimeout = time.Minute

// A key is one key and what is known of it. Its fields belong to the one goroutine that refreshes it.
type key struct {
	Key
	log *slog.Logger

	source     ssm.Source                  // as AWS answered; the zero Source before that
	fetched    candidate                   // what was fetched last
	published  atomic.Pointer[keyfile.Key] // what is on disk of this source; nil before the first
	login      *decrypt.Login              // that was stored with the published key; nil if a predecessor published it
	unverified bool                        // published went on disk before Snowflake was reached, perhaps by a predecessor
	status     keyfile.Status
	locked     atomic.Bool // another sidecar publishes in the directory
	unlocked   string      // why the directory is used without its lock

	retry        schedule.RetryState
	failingSince time.Time
	stale        bool          // SSM has a newer key than the published one, and it could not be fetched
	answered     time.Time     // when SSM answered last, the same for all keys of that refresh
	interval     time.Duration // at that time
	next         time.Time     // when to refresh again
}

// A candidate is a key, or why there is none.
type candidate struct {
	revision ssm.Revision
	version  string
	stored   time.Time
	login    decrypt.Login
	key      *keyfile.Key
	remark   string // how the passphrase had to be read
	err      error
}

func newKey(o Key, log *slog.Logger) *key {
	k := &key{Key: o, log: log}
	if o.Name != "" {
		k.log = log.With("key", o.Name)
	}
	switch {
	case o.Handle == nil: // SECRET_KEY: the fingerprint says
		k.loadPrevious(noSource)
	case o.Handle.Source().Known():
		k.identify(o.Handle.Source())
	default:
		k.loadPrevious(o.Handle.Source().Matches)
	}
	return k
}

// identify sets the source. A key and a status on disk count from then on only if they are of exactly this source.
func (k *key) identify(source ssm.Source) {
	if source == k.source {
		return
	}
	k.source = source
	if name := source.String(); k.status.Source != name {
		k.loadPrevious(func(written string) bool { return written == name })
		k.status.Source = name
	}
}

func noSource(string) bool { return false }

// loadPrevious takes over what a predecessor of the same source left on disk, and forgets everything else about the
// directory. A key of another source stays there until the first key replaces it.
func (k *key) loadPrevious(same func(source string) bool) {
	published, status := k.Dir.Previous(same)
	status.Schema = keyfile.StatusSchema
	k.published.Store(published)
	k.login = nil
	k.status = status
	k.unverified = k.Verify != nil && published != nil && !refreshedSincePublished(status)
}

// refreshedSincePublished reports whether a refresh succeeded after the key on disk was published. If none did, or the
// sidecar was killed before it noted one, Snowflake may not have accepted the key yet.
func refreshedSincePublished(s keyfile.Status) bool {
	return !s.PublishedAt.IsZero() && !s.CheckedAt.Before(s.PublishedAt)
}

// ready reports why readers find no key of this source.
func (k *key) ready() error {
	if k.published.Load() == nil || k.locked.Load() {
		return fmt.Errorf("no key from %s is in %s; the sidecar's log says why", k.Parameter, k.Dir)
	}
	return k.Dir.Health()
}

// apply publishes what was fetched, in a directory that no sidecar with another source publishes in.
func (k *key) apply(ctx context.Context, f ssm.Fetched) Outcome {
	if f.Material != nil {
		k.fetched = decrypted(f.Material)
		if failure.Class(k.fetched.err) == keyfile.ClassUnreadableKey {
			k.fetched.err = fmt.Errorf("%s: %w", k.Parameter, k.fetched.err)
		}
		if k.fetched.remark != "" {
			k.log.Warn(k.fetched.remark, "advice", decrypt.RemarkAdvice)
		}
	}
	k.learnSource(f)
	if err := k.lock(ctx); err != nil {
		return k.refuse(ctx, err)
	}
	published, err := k.publish(ctx, f)
	if ctx.Err() != nil && (err != nil || !published) {
		return Outcome{Key: k.Name, Err: ctx.Err(), Status: k.status} // stopped: neither a success nor a failure
	}
	if err != nil && failure.Class(err) != keyfile.ClassFilesystem {
		restored, restoreErr := k.restore()
		published = published || restored
		err = errors.Join(err, restoreErr)
	}
	err = k.connect(err)
	err = k.record(ctx, published, err)
	unverified := k.unverified && k.fetched.key.Equal(k.published.Load()) && failure.Class(err) == keyfile.ClassNetwork
	return Outcome{Key: k.Name, Published: published, Unverified: unverified, Remark: k.fetched.remark, Err: err, Status: k.status}
}

// restore publishes the last key again, which is still in memory: the files may have gone with their volume. It leaves
// a newer key that another sidecar of the source has published: that one has fetched what this one could not.
func (k *key) restore() (restored bool, err error) {
	last := k.published.Load()
	if last == nil {
		return false, nil
	}
	if newer, status := k.Dir.Newer(last); newer != nil {
		last = newer
		k.published.Store(newer)
		k.login = nil
		k.status.Fingerprint, k.status.Version = status.Fingerprint, status.Version
		k.status.StoredAt, k.status.PublishedAt = status.StoredAt, status.PublishedAt
		k.unverified = k.Verify != nil
	}
	return k.Dir.Key(last)
}

// connect writes the connection of the key that is on disk. It returns err, joined with why the connection failed.
func (k *key) connect(err error) error {
	if k.Connect == nil || k.published.Load() == nil || failure.Class(err) == keyfile.ClassFilesystem {
		return err
	}
	if failed := k.Connect(k.login); failed != nil {
		return errors.Join(err, failed) // the class of the first is reported
	}
	return err
}

// learnSource takes the source from AWS's answer, or from the key itself if it came in SECRET_KEY. As long as AWS has
// not answered, a key on disk that may be of this source counts as such: it usually is, and an outage must not stop
// its readers. An answer without a source ends that.
func (k *key) learnSource(f ssm.Fetched) {
	switch {
	case k.Handle == nil && k.fetched.key != nil:
		k.identify(ssm.FromSecretKey(k.fetched.key.Fingerprint()))
	case k.Handle == nil:
	case f.Err == nil || k.Handle.Source().Known():
		k.identify(k.Handle.Source())
	case k.source == (ssm.Source{}) && answersFor(f.Err):
		k.loadPrevious(noSource)
	}
}

// answersFor reports whether err is AWS's answer about the key's parameter, and not a reason why no answer came.
func answersFor(err error) bool {
	switch failure.Class(err) {
	case keyfile.ClassNotFound, keyfile.ClassAccessDenied:
		return true
	default:
		return false
	}
}

// lock makes sure that no sidecar with another source publishes in the directory.
func (k *key) lock(ctx context.Context) error {
	if err := k.Dir.Create(); err != nil {
		return err
	}
	source := ""
	switch {
	case k.source != (ssm.Source{}):
		source = k.source.String()
	case k.published.Load() != nil: // that of the key on disk, as long as it counts: a sidecar of the same source may live
		source = k.status.Source
	}
	if err := k.Dir.Lock(ctx, source); err != nil {
		return err
	}
	if why := k.Dir.Unlocked(); why != k.unlocked {
		k.unlocked = why
		if why != "" {
			k.log.Warn("the directory is not locked", "reason", why)
		}
	}
	return nil
}

// refuse is the outcome of a key whose directory another sidecar has locked. The Directory keeps that sidecar's status.json.
func (k *key) refuse(ctx context.Context, err error) Outcome {
	if ctx.Err() != nil {
		return Outcome{Key: k.Name, Err: ctx.Err(), Status: k.status}
	}
	k.status.LastError = lastError(k.status.LastError, err)
	if locked(err) {
		_ = k.Dir.Status(k.status) // without it the log has the error
	}
	k.report(ctx, false, err)
	return Outcome{Key: k.Name, Err: err, Status: k.status}
}

// locked reports whether err says that another sidecar, or another program, has locked the directory.
func locked(err error) bool { return failure.Class(err) == keyfile.ClassLocked }

func (k *key) publish(ctx context.Context, f ssm.Fetched) (published bool, err error) {
	if f.Err != nil {
		return false, f.Err
	}
	if k.fetched.err != nil {
		return false, k.fetched.err
	}
	fetched := k.fetched.key
	refused := k.verify(ctx, fetched)
	if refused != nil && (ctx.Err() != nil || !k.mayPublishUnverified(fetched, refused)) { // a stop is no answer of Snowflake's
		return false, refused
	}
	published, err = k.Dir.Key(fetched)
	if published || err == nil {
		// Once any file holds the key there is no way back: the next refresh would only swap them again.
		k.markPublished(k.fetched)
		k.unverified = refused != nil
	}
	if err == nil {
		err = refused
	}
	return published, err
}

// verify logs in to Snowflake with a key, unless the key is on disk and Snowflake has accepted it.
func (k *key) verify(ctx context.Context, fetched *keyfile.Key) error {
	if k.Verify == nil || fetched.Equal(k.published.Load()) && !k.unverified {
		return nil
	}
	return k.Verify(ctx, fetched, k.fetched.login)
}

// mayPublishUnverified is for --verify-unreachable publish. Snowflake may accept a published key even if no answer says so:
// an unverified key never replaces it.
func (k *key) mayPublishUnverified(fetched *keyfile.Key, refused error) bool {
	published := k.published.Load()
	return k.PublishUnverified && failure.Class(refused) == keyfile.ClassNetwork && (published == nil || fetched.Equal(published))
}

// markPublished notes that the candidate is on disk.
func (k *key) markPublished(c candidate) {
	if !c.key.Equal(k.published.Load()) || k.status.PublishedAt.IsZero() {
		k.status.PublishedAt = now()
	}
	k.published.Store(c.key)
	k.login = &c.login
	k.status.Fingerprint = c.key.Fingerprint()
	k.status.Version = c.version
	k.status.StoredAt = c.stored
}

// decrypted keeps an error together with the revision, so that the same stored values are not fetched and tried again.
func decrypted(m *ssm.Material) candidate {
	defer m.Clear()
	stored, err := decrypt.Parse(m.Text, m.Passphrase)
	defer stored.Passphrase.Clear()
	return candidate{
		revision: m.Revision, version: m.Version, stored: m.Stored, login: stored.Login, key: stored.Key, remark: stored.Remark(), err: err,
	}
}

// record writes status.json and the log.
func (k *key) record(ctx context.Context, published bool, err error) error {
	k.status.Filesystem = k.Dir.Filesystem()
	previous := k.status.LastError
	k.status.LastError = nil
	if err == nil {
		k.status.CheckedAt = now()
	} else {
		k.status.LastError = lastError(previous, err)
	}
	if statusErr := k.Dir.Status(k.status); err == nil {
		err = statusErr
	}
	k.report(ctx, published, err)
	return err
}

// lastError is err as status.json has it, with the time of the first failure in a row. A refused lock counts by
// itself: health goes by how long it lasts.
func lastError(previous *keyfile.LastError, err error) *keyfile.LastError {
	f := &keyfile.LastError{Class: failure.Class(err), At: now()}
	f.Since = f.At
	if previous != nil && !previous.Since.IsZero() && (!locked(err) || previous.Class == keyfile.ClassLocked) {
		f.Since = previous.Since
	}
	return f
}

// report counts failures, and logs events: a refresh that found everything unchanged is none.
func (k *key) report(ctx context.Context, published bool, err error) {
	if published {
		k.log.Info("key published", "fingerprint", k.status.Fingerprint, "source", k.status.Source,
			"version", k.status.Version, "dir", k.Dir.String(), "filesystem", k.status.Filesystem)
	}
	k.locked.Store(locked(err))
	if err == nil {
		if k.retry.Failures > 0 {
			k.log.Info("recovered", "after_failures", k.retry.Failures, "after", time.Since(k.failingSince).String())
		}
		k.retry = schedule.RetryState{}
		return
	}
	if k.retry.Failures == 0 {
		k.failingSince = time.Now()
	}
	class := failure.Class(err)
	throttled := class == keyfile.ClassThrottled
	waiting := k.published.Load() == nil || k.stale && throttled || k.locked.Load()
	k.retry = k.retry.Failed(k.answered, throttled, waiting)
	about := append(failure.Attributes(err), "failures", k.retry.Failures, "key_on_disk", k.status.Fingerprint)
	if throttled && !waiting {
		about = append(about, "interval", k.interval.Round(time.Second).String())
	}
	k.log.Log(ctx, k.level(class), "refresh failed", about...)
}

// level is Warn while key and passphrase may be between their two changes, otherwise Error.
func (k *key) level(class keyfile.ErrorClass) slog.Level {
	changing := k.published.Load() != nil && class == keyfile.ClassPassphrase && time.Since(k.failingSince) < pairTimeout
	if changing {
		return slog.LevelWarn
	}
	return slog.LevelError
}
