//go:build unix

package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/daemon"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

// A waiter waits for the first keys.
type waiter struct {
	keys           []refresh.Key
	outcomes       <-chan refresh.Outcome
	signals        <-chan os.Signal
	requestRefresh func()
	givesUp        func(error) bool
	timeout        time.Duration // 0: none
}

// fingerprints are the fingerprints of the keys on disk, by the key's name.
type fingerprints map[string]string

// firstKeys waits until every key is published. It waits out failures that a retry can overcome, and returns others at once.
// A signal is an error as well: CMD has not run.
func (w waiter) firstKeys(ctx context.Context) (fingerprints, error) {
	var timeout <-chan time.Time
	if w.timeout > 0 {
		timeout = time.After(w.timeout)
	}
	published, last := fingerprints{}, map[string]error{}
	for len(published) < len(w.keys) {
		select {
		case o := <-w.outcomes:
			if err := w.note(o, published); err != nil {
				return nil, w.noKey(o.Key, err)
			}
			last[o.Key] = o.Err
		case s := <-w.signals:
			switch s {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
				return nil, w.noKey(w.missing(published), StoppedError{s.(syscall.Signal)})
			case syscall.SIGHUP:
				w.requestRefresh()
			}
		case <-ctx.Done():
			cause, _ := errors.AsType[supervise.SignalError](context.Cause(ctx))
			return nil, w.noKey(w.missing(published), StoppedError(cause))
		case <-timeout:
			name := w.missing(published)
			err := last[name]
			if err == nil {
				err = errors.New("there was no answer yet")
			}
			return nil, w.noKey(name, fmt.Errorf("gave up after %v (--start-timeout): %w", w.timeout, err))
		}
	}
	return published, nil
}

// note records a key that is published. It returns an error if no retry can help.
func (w waiter) note(o refresh.Outcome, published fingerprints) error {
	switch {
	case o.Err == nil:
		published[o.Key] = o.Status.Fingerprint
	case failure.Class(o.Err) == keyfile.ClassLocked: // perhaps by a task that is ending on this host; the key on disk is that task's
	case w.hopeless(o.Err):
		return refused(o.Err)
	case o.Status.Fingerprint != "": // of a predecessor with the same source; the log says why there is no newer one
		published[o.Key] = o.Status.Fingerprint
	case failure.Permanent(o.Err):
		return refused(o.Err)
	}
	return nil
}

// refused marks err for the exit code if no retry of a later process can help either.
func refused(err error) error {
	if failure.Permanent(err) {
		return failure.Refused{Err: err}
	}
	return err
}

// hopeless reports an error that no refresh of this process can overcome, whatever is on disk: an unusable key from the
// environment, or a wrong directory, since a container's mounts are there before its first process.
func (w waiter) hopeless(err error) bool {
	return failure.Class(err) == keyfile.ClassFilesystem || w.givesUp(err)
}

func (w waiter) key(name string) refresh.Key {
	return w.keys[slices.IndexFunc(w.keys, func(k refresh.Key) bool { return k.Name == name })]
}

// missing is the name of the first key that is not on disk.
func (w waiter) missing(published fingerprints) string {
	for _, k := range w.keys {
		if _, ok := published[k.Name]; !ok {
			return k.Name
		}
	}
	return ""
}

func (w waiter) noKey(name string, err error) error {
	return fmt.Errorf("no key from %s, so CMD was not started: %w", w.key(name).Parameter, daemon.OfKey(name, err))
}
