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
	// Between two tries of a candidate there is a random time below a ceiling that doubles with each.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
	leastPause   = 100 * time.Millisecond

	// loginsAtOnce bounds how many logins for a candidate run at the same time, mostSetAside how many
	// of them there are: Snowflake and the network serve others, too.
	loginsAtOnce = 8
	mostSetAside = 256

	// keepSetAside is options.keep outside of tests.
	keepSetAside = time.Minute
)

var errSuperseded = errors.New("superseded by a newer key")

// start waits for a key that Snowflake does not refuse, and makes it the serving key.
func (c *Connector) start(ctx context.Context) error {
	for tries := 1; ; tries++ {
		key := c.watch.Key()
		first, err := c.probe(ctx, key)
		if err == nil {
			c.pool.serve(key, []*session{first})
			c.report(Event{Kind: Adopted, Fingerprint: key.Fingerprint(), Connections: 1})
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no login with the key %s yet: %w", key.Fingerprint(), err)
		}
		if !refused(err) {
			c.pool.serve(key, nil)
			c.report(Event{Kind: Failed, Fingerprint: key.Fingerprint(), Err: err})
			return nil
		}
		c.report(Event{Kind: Refused, Fingerprint: key.Fingerprint(), Err: err})
		c.refresh.ask()
		if !c.wait(ctx, pause(tries)) {
			return fmt.Errorf("Snowflake refuses the key %s: %w (%w)", key.Fingerprint(), err, context.Cause(ctx))
		}
	}
}

// follow makes each new key the serving key, once Snowflake accepts it.
func (c *Connector) follow(ctx context.Context) {
	surplus := time.NewTimer(c.options.keep)
	defer surplus.Stop()
	tries := 0
	for ctx.Err() == nil {
		candidate := c.watch.Key()
		if candidate != c.counts.candidate.Load() {
			tries = 0
		}
		if candidate.Fingerprint() == c.pool.serving().Fingerprint() {
			c.counts.candidate.Store(nil)
			select {
			case <-ctx.Done():
			case <-c.watch.Updated():
			case <-surplus.C:
				c.pool.drop()
			}
			continue
		}
		c.counts.candidate.Store(candidate)
		err := c.attempt(ctx, candidate)
		switch {
		case err == nil:
			surplus.Reset(c.options.keep)
			continue
		case errors.Is(err, errSuperseded) || ctx.Err() != nil:
			continue
		}
		kind := Failed
		if refused(err) {
			kind = Refused
		}
		c.report(Event{Kind: kind, Fingerprint: candidate.Fingerprint(), Err: err})
		tries++
		c.wait(ctx, pause(tries))
	}
}

// wait reports whether ctx goes on. A new key cuts it short.
func (c *Connector) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c.watch.Updated():
	case <-timer.C:
	}
	return true
}

func pause(tries int) time.Duration {
	ceiling := firstPause
	for range tries - 1 {
		if ceiling >= longestPause {
			break
		}
		ceiling *= 2
	}
	return leastPause + rand.N(min(ceiling, longestPause))
}

// attempt prepares for candidate and gives up as soon as there is a newer key.
func (c *Connector) attempt(ctx context.Context, candidate *keyfile.Key) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- c.prepare(ctx, candidate) }()
	for {
		select {
		case err := <-done:
			return err
		case <-c.watch.Updated():
			if c.watch.Key().Fingerprint() != candidate.Fingerprint() {
				cancel(errSuperseded)
				return errors.Join(errSuperseded, <-done)
			}
		}
	}
}

// prepare logs in with candidate as many sessions as connections are open, and makes it the serving key.
func (c *Connector) prepare(ctx context.Context, candidate *keyfile.Key) error {
	began := time.Now()
	probe, err := c.probe(ctx, candidate)
	if err != nil {
		return err
	}
	prepared := []*session{probe}
	for ctx.Err() == nil {
		open, _ := c.pool.sizes()
		missing := min(open, mostSetAside) - len(prepared)
		if missing <= 0 {
			break
		}
		more, err := c.logins(ctx, candidate, missing)
		prepared = append(prepared, more...)
		if refused(err) {
			c.pool.discard(prepared)
			return err
		}
		if err != nil {
			break // the candidate is good all the same: queries log in for what is missing
		}
	}
	if ctx.Err() != nil {
		c.pool.discard(prepared)
		return context.Cause(ctx)
	}
	// A query whose login was refused may have found a newer key in the file before the watch did.
	if newest, err := keyfile.Read(c.path); err == nil && newest.Fingerprint() != candidate.Fingerprint() {
		c.watch.Check()
		c.pool.discard(prepared)
		return errSuperseded
	}
	c.adopt(candidate, prepared, time.Since(began))
	return nil
}

// adopt makes key the serving key.
func (c *Connector) adopt(key *keyfile.Key, prepared []*session, took time.Duration) {
	c.pool.serve(key, prepared)
	c.counts.rotations.Add(1)
	c.report(Event{Kind: Adopted, Fingerprint: key.Fingerprint(), Connections: len(prepared), Took: took})
}

// probe is a login for a candidate.
func (c *Connector) probe(ctx context.Context, key *keyfile.Key) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	return c.login(ctx, key, refusalExpected)
}

// logins makes n sessions, a few at a time. With an error it gives those that there are.
func (c *Connector) logins(ctx context.Context, key *keyfile.Key, n int) ([]*session, error) {
	var (
		mu     sync.Mutex
		made   []*session
		errs   error
		places = make(chan struct{}, loginsAtOnce)
		group  sync.WaitGroup
	)
	for range n {
		places <- struct{}{}
		mu.Lock()
		failed := errs != nil
		mu.Unlock()
		if failed || ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-places }()
			s, err := c.probe(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = errors.Join(errs, err)
				return
			}
			made = append(made, s)
		})
	}
	group.Wait()
	return made, errs
}
