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

	// loginGap lies between the beginnings of two of them: each costs a signature, and a rotation has
	// more time than the queries beside it.
	loginGap = 20 * time.Millisecond

	// keepSetAside is options.keep outside of tests.
	keepSetAside = time.Minute

	// startPatience bounds how long Open waits for a Snowflake that does not answer.
	startPatience = 5 * time.Second
)

var errSuperseded = errors.New("superseded by a newer key")

// start waits for a key that Snowflake does not refuse, and makes it the serving key.
func (c *Connector) start(ctx context.Context) error {
	var said error // by Snowflake, about the last key that it refused
	for tries := 1; ; tries++ {
		key := c.watch.Key()
		first, err := c.probe(ctx, key, startPatience)
		switch {
		case err == nil:
			c.pool.serve(key, []*session{first})
			c.report(Event{Kind: Adopted, Fingerprint: key.Fingerprint(), Connections: 1})
			return nil
		case misconfigured(err):
			return err
		case refused(err):
			said = fmt.Errorf("Snowflake refuses the key %s: %w", key.Fingerprint(), err)
			c.report(Event{Kind: Refused, Fingerprint: key.Fingerprint(), Err: err})
		case ctx.Err() == nil: // queries will tell
			c.pool.serve(key, nil)
			c.report(Event{Kind: Failed, Fingerprint: key.Fingerprint(), Err: err})
			return nil
		case said == nil:
			said = fmt.Errorf("no answer yet to a login with the key %s", key.Fingerprint())
		}
		if ctx.Err() == nil {
			c.refresh.ask()
			c.wait(ctx, pause(tries))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", said, context.Cause(ctx))
		}
	}
}

// follow makes each new key the serving key, once Snowflake accepts it.
func (c *Connector) follow(ctx context.Context) {
	tries := 0
	for ctx.Err() == nil {
		candidate := c.watch.Key()
		if candidate != c.counts.candidate.Load() {
			tries = 0
		}
		if same(candidate, c.pool.serving()) {
			c.counts.candidate.Store(nil)
			select {
			case <-ctx.Done():
			case <-c.watch.Updated():
			}
			continue
		}
		c.counts.candidate.Store(candidate)
		err := c.attempt(ctx, candidate)
		if err == nil || ctx.Err() != nil || !same(c.watch.Key(), candidate) {
			continue
		}
		tries++
		if !errors.Is(err, errSuperseded) {
			kind := Failed
			if refused(err) {
				kind = Refused
			}
			c.report(Event{Kind: kind, Fingerprint: candidate.Fingerprint(), Err: err})
		}
		c.wait(ctx, pause(tries))
	}
}

// wait waits for d. The end of ctx cuts it short, a new key does, and one that was accepted elsewhere.
func (c *Connector) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.watch.Updated():
	case <-c.accepted:
	case <-timer.C:
	}
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
			if !same(c.watch.Key(), candidate) {
				cancel(errSuperseded)
				return errors.Join(errSuperseded, <-done)
			}
		}
	}
}

// prepare logs in with candidate as many sessions as connections are open, and makes it the serving key.
// Until all of them are there the serving key keeps its connections: if logins fail now, those of the
// queries would, too.
func (c *Connector) prepare(ctx context.Context, candidate *keyfile.Key) error {
	began := time.Now()
	probe, err := c.probe(ctx, candidate, loginTimeout)
	if err != nil {
		return err
	}
	prepared := []*session{probe}
	for {
		open, _ := c.pool.sizes()
		missing := min(open, mostSetAside) - len(prepared)
		if missing <= 0 {
			break
		}
		more, err := c.probes(ctx, candidate, missing)
		prepared = append(prepared, more...)
		if err != nil {
			c.pool.discard(prepared)
			return err
		}
	}
	if !c.adopt(candidate, prepared, time.Since(began)) {
		c.watch.Check()
		c.pool.discard(prepared)
		return errSuperseded
	}
	return nil
}

// adopt makes key the serving key, unless there is a newer one in the file by now. It reports whether it
// did.
func (c *Connector) adopt(key *keyfile.Key, prepared []*session, took time.Duration) bool {
	if !same(c.newest(), key) {
		return false
	}
	c.pool.serve(key, prepared)
	c.counts.rotations.Add(1)
	c.report(Event{Kind: Adopted, Fingerprint: key.Fingerprint(), Connections: len(prepared), Took: took})
	return true
}

// probe is a login for a candidate.
func (c *Connector) probe(ctx context.Context, key *keyfile.Key, patience time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.login(ctx, key, refusalExpected)
}

// probes makes n sessions, a few at a time. With an error it gives those that there are.
func (c *Connector) probes(ctx context.Context, key *keyfile.Key, n int) ([]*session, error) {
	var (
		mu     sync.Mutex
		made   []*session
		errs   error
		places = make(chan struct{}, loginsAtOnce)
		group  sync.WaitGroup
	)
	all := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gap := time.NewTicker(loginGap)
	defer gap.Stop()
	for range n {
		places <- struct{}{}
		select {
		case <-gap.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-places }()
			s, err := c.probe(ctx, key, loginTimeout)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = errors.Join(errs, err)
				cancel() // the rest would fail, too
				return
			}
			made = append(made, s)
		})
	}
	group.Wait()
	return made, errors.Join(errs, all.Err())
}
