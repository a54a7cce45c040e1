package snowkey

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	// A candidate is tried again after a random time below a ceiling that doubles with each try.
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 30 * time.Second
	leastBackoff   = 100 * time.Millisecond

	// candidateLogins bounds the logins with a candidate at the same time, and maxSpares the sessions that they make:
	// Snowflake and the network have other users, too.
	candidateLogins = 8
	maxSpares       = 256

	// loginInterval is the time between the starts of two of these logins. Each costs a signature, and a rotation has
	// more time than the queries that run meanwhile.
	loginInterval = 20 * time.Millisecond

	// startTimeout bounds how long Open waits for a Snowflake that does not answer.
	startTimeout = 5 * time.Second
)

var errSuperseded = errors.New("superseded by a newer key")

// start waits for a key that Snowflake does not refuse, and makes it the serving key.
func (c *Connector) start(ctx context.Context) error {
	var lastErr error // what Open fails with when ctx ends
	for attempt := 1; ; attempt++ {
		key := c.watch.Key()
		first, err := c.loginCandidate(ctx, key, startTimeout)
		var badInit *initError
		switch {
		case err == nil:
			c.pool.serve(key, []*session{first})
			c.report(Event{Kind: KeyActivated, Fingerprint: key.Fingerprint(), Sessions: 1})
			return nil
		case misconfigured(err):
			return kindError{err, ErrInvalidConfig}
		case errors.As(err, &badInit):
			return err
		case refused(err):
			lastErr = fmt.Errorf("Snowflake refuses the key %s: %w; assign its public key to the user, or put a key into the file that is assigned", key.Fingerprint(), err)
			c.report(Event{Kind: KeyRefused, Fingerprint: key.Fingerprint(), Err: err})
		case ctx.Err() == nil: // queries will report it
			c.pool.serve(key, nil)
			c.report(Event{Kind: LoginFailed, Fingerprint: key.Fingerprint(), Err: err})
			return nil
		case lastErr == nil:
			lastErr = fmt.Errorf("no answer yet to a login with the key %s: %w", key.Fingerprint(), err)
		}
		if ctx.Err() == nil {
			c.trigger.refresh()
			c.wait(ctx, backoff(attempt))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", lastErr, context.Cause(ctx))
		}
	}
}

// follow makes each new key the serving key, once Snowflake accepts it.
func (c *Connector) follow(ctx context.Context) {
	var tried *keyfile.Key
	attempt := 0
	for ctx.Err() == nil {
		candidate := c.watch.Key()
		if same(candidate, c.pool.serving()) {
			c.stats.setCandidate(nil)
			select {
			case <-ctx.Done():
			case <-c.watch.Updated():
			}
			continue
		}
		if candidate != tried {
			tried, attempt = candidate, 0
			c.stats.setCandidate(candidate)
			if !c.isAccepted(candidate) {
				// Other tasks see the same key at the same moment.
				c.wait(ctx, randomUpTo(c.options.jitter))
			}
			continue
		}
		err := c.tryCandidate(ctx, candidate)
		if err == nil || ctx.Err() != nil || !same(c.watch.Key(), candidate) {
			continue
		}
		attempt++
		if !errors.Is(err, errSuperseded) {
			kind := LoginFailed
			if refused(err) {
				kind = KeyRefused
			}
			c.report(Event{Kind: kind, Fingerprint: candidate.Fingerprint(), Err: err})
		}
		c.wait(ctx, backoff(attempt))
	}
}

// wait waits for d, and returns earlier when ctx ends, when there is a newer key, and when Snowflake has accepted the newest
// key in a login for a connection.
func (c *Connector) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.watch.Updated():
			return
		case <-timer.C:
			return
		case <-c.acceptance:
			if c.isAccepted(c.watch.Key()) {
				return
			}
		}
	}
}

// isAccepted reports whether Snowflake has accepted key in a login for a connection.
func (c *Connector) isAccepted(key *keyfile.Key) bool {
	accepted := c.accepted.Load()
	return accepted != nil && same(accepted, key)
}

// backoff returns the time to wait after this number of failed attempts.
func backoff(attempts int) time.Duration {
	ceiling := firstBackoff
	for range attempts - 1 {
		if ceiling >= longestBackoff {
			break
		}
		ceiling *= 2
	}
	return leastBackoff + randomUpTo(min(ceiling, longestBackoff))
}

func randomUpTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// tryCandidate activates candidate, and gives up as soon as there is a newer key.
func (c *Connector) tryCandidate(ctx context.Context, candidate *keyfile.Key) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- c.activate(ctx, candidate) }()
	for {
		select {
		case err := <-done:
			return err
		case <-c.watch.Updated():
			if !same(c.watch.Key(), candidate) {
				cancel(errSuperseded)
				return errors.Join(errSuperseded, <-done)
			}
		}
	}
}

// activate logs in with candidate once for each connection that has a session, and then makes it the serving key. The
// serving key keeps its connections until all of these sessions are there: if logins fail now, those of the queries would
// fail, too.
func (c *Connector) activate(ctx context.Context, candidate *keyfile.Key) error {
	began := time.Now()
	first, err := c.loginCandidate(ctx, candidate, loginTimeout)
	if err != nil {
		return err
	}
	spares := []*session{first}
	for {
		missing := min(c.pool.sessions(), maxSpares) - len(spares)
		if missing <= 0 {
			break
		}
		more, err := c.logInSpares(ctx, candidate, missing)
		spares = append(spares, more...)
		if err != nil {
			c.pool.discard(spares...)
			return err
		}
	}
	if !same(c.newest(ctx), candidate) {
		c.watch.Poll()
		c.pool.discard(spares...)
		return errSuperseded
	}
	c.pool.serve(candidate, spares)
	c.stats.rotated()
	c.report(Event{Kind: KeyActivated, Fingerprint: candidate.Fingerprint(), Sessions: len(spares), Took: time.Since(began)})
	return nil
}

// logInSpares logs in n sessions, a few at a time. With an error it returns those that have succeeded.
func (c *Connector) logInSpares(ctx context.Context, key *keyfile.Key, n int) ([]*session, error) {
	var (
		mu     sync.Mutex
		made   []*session
		failed error // the first
		group  sync.WaitGroup
		slots  = make(chan struct{}, candidateLogins)
	)
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interval := time.NewTicker(loginInterval)
	defer interval.Stop()
	for range n {
		slots <- struct{}{}
		select {
		case <-interval.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			s, err := c.loginCandidate(ctx, key, loginTimeout)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if failed == nil {
					failed = err
				}
				cancel() // the others would fail, too
				return
			}
			made = append(made, s)
		})
	}
	group.Wait()
	return made, errors.Join(failed, parent.Err())
}
