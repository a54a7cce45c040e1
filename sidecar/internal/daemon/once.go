package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/refresh"
)

// onceTimeout bounds Once: a call to SSM and one to Snowflake, each with its own limit.
const onceTimeout = time.Minute

// Once publishes every key once. It prints each key that is on disk to out, and warnings to errOut.
func Once(ctx context.Context, c *config.OnceConfig, o Options, out, errOut io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, onceTimeout)
	defer cancel()
	o.Log = slog.New(slog.DiscardHandler) // the result and the error are all that is printed
	options, err := refreshOptions(ctx, &c.PublishSettings, 0, o, readers{})
	if err != nil {
		return err
	}
	for _, w := range c.Warnings() {
		fmt.Fprintln(errOut, "sidecar: warning:", w)
	}
	var outcomes []refresh.Outcome
	var running sync.WaitGroup
	running.Go(func() { outcomes = refresh.New(options).RefreshOnce(ctx) })
	if !waitFor(ctx, &running) {
		return stopped(ctx, c)
	}
	sortLikeKeys(outcomes, options.Keys)
	err = failed(outcomes)
	if err != nil && ctx.Err() != nil {
		return stopped(ctx, c)
	}
	for i, o := range outcomes {
		describe(o, options.Keys[i].Dir.String(), out, errOut)
	}
	return err
}

func stopped(ctx context.Context, c *config.OnceConfig) error {
	return fmt.Errorf("stopped: %w; see %s for whether the key was published by then", context.Cause(ctx), c.Dir)
}

// sortLikeKeys sorts outcomes, which are in the order of their arrival, into the order of the keys.
func sortLikeKeys(outcomes []refresh.Outcome, keys []refresh.Key) {
	place := func(o refresh.Outcome) int {
		return slices.IndexFunc(keys, func(k refresh.Key) bool { return k.Name == o.Key })
	}
	slices.SortFunc(outcomes, func(a, b refresh.Outcome) int { return place(a) - place(b) })
}

// describe says what happened to a key that is on disk.
func describe(o refresh.Outcome, dir string, out, errOut io.Writer) {
	if o.Err != nil && !o.Unverified {
		return
	}
	if o.Remark != "" {
		fmt.Fprintln(errOut, "sidecar: warning:", OfKey(o.Key, errors.New(o.Remark+"; "+decrypt.RemarkAdvice)))
	}
	word := "published"
	if !o.Published {
		word = "unchanged"
	}
	if o.Err != nil {
		fmt.Fprintln(errOut, "sidecar: not verified:", OfKey(o.Key, o.Err))
	}
	fmt.Fprintf(out, "%s %s in %s (%s)\n", word, o.Status.Fingerprint, dir, o.Status.Filesystem)
}

// failed returns why keys are not on disk: a failure.Refused only if no retry can help any of them.
func failed(outcomes []refresh.Outcome) error {
	var problems []error
	refused := true
	for _, o := range outcomes {
		if o.Err == nil || o.Unverified {
			continue
		}
		problems = append(problems, OfKey(o.Key, o.Err))
		refused = refused && failure.Permanent(o.Err)
	}
	if len(problems) == 0 {
		return nil
	}
	err := problems[0]
	if len(problems) > 1 {
		err = severalErrors{of: len(outcomes), all: problems}
	}
	if refused {
		return failure.Refused{Err: err}
	}
	return err
}

// severalErrors are the errors of several keys.
type severalErrors struct {
	of  int // keys
	all []error
}

func (e severalErrors) Error() string {
	lines := make([]string, len(e.all))
	for i, err := range e.all {
		lines[i] = "\n  - " + err.Error()
	}
	return fmt.Sprintf("%d of %d keys failed:%s", len(e.all), e.of, strings.Join(lines, ""))
}

func (e severalErrors) Unwrap() []error { return e.all }

// OfKey says which key err is about, if there are several.
func OfKey(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("key %s: %w", name, err)
}
