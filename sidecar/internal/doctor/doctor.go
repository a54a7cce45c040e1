// Package doctor finds out why a task has no key, or one that Snowflake does not take. It gathers what there
// is to know about AWS, the key, the key directory, the clocks and Snowflake, and then judges it in small
// checks, each of which says the one thing to do.
//
// It never changes anything, in AWS, in Snowflake or on disk; never waits longer than Within; and never gives
// away a secret.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/sqlapi"
)

// A State is what a check came to.
type State string

// The states.
const (
	OK   State = "ok"
	Warn State = "warn" // works, and may not be what was meant
	Fail State = "fail"
	Skip State = "skip" // not looked at
)

// A Result is one line of a Report.
type Result struct {
	Key   string `json:"key,omitempty"` // its name, where there are several
	Check string `json:"check"`
	State State  `json:"state"`
	Says  string `json:"says"`         // what was found, or why nobody looked
	Do    string `json:"do,omitempty"` // the one thing to do
}

// A Connect makes the client of a key's user, whom the key's secret may name where the settings do not.
type Connect func(config.Snowflake, decrypt.Login) *sqlapi.Client

// Run gathers and judges, for all keys at the same time.
func Run(ctx context.Context, c *config.Config, connect Connect) *Report {
	reports := make([]*Report, len(c.Keys))
	var group sync.WaitGroup
	for i, k := range c.Keys {
		group.Go(func() { reports[i] = judge(gather(ctx, c, k, connect), groups).of(k.Name) })
	}
	group.Wait()
	return join(reports)
}

// A group is checks that are all of use, or none of them.
type group struct {
	applies func(*facts) (why string) // "" when they are, otherwise why not
	checks  []check
}

// A check judges one thing.
type check struct {
	name  string
	needs []string // the checks before it without whose success there is nothing to judge
	judge func(*facts) finding
}

// A finding is a result without the check's name.
type finding struct {
	state    State
	says, do string
	blocks   bool // there is nothing to judge for the checks that need this one
}

func ok(says string) finding       { return finding{state: OK, says: says} }
func warn(says, do string) finding { return finding{state: Warn, says: says, do: do} }
func fail(says, do string) finding { return finding{state: Fail, says: says, do: do, blocks: true} }

// skip is for what need not be looked at.
func skip(why string) finding { return finding{state: Skip, says: why} }

// blocked is for what cannot be looked at.
func blocked(why string) finding { return finding{state: Skip, says: why, blocks: true} }

// failed splits an error that says what to do. What is new to it has a name, at least.
func failed(err error) finding {
	says, do := err.Error(), ""
	if e, ok := errors.AsType[*failure.Error](err); ok {
		says, do = e.Unwrap().Error(), e.Do
	}
	return fail(says, cmp.Or(do, "look up what it names, at AWS or Snowflake"))
}

// late is failed, without the SDK's or the HTTP client's words for a call that took too long.
func late(err error, whose string) finding {
	found := failed(err)
	if errors.Is(err, context.DeadlineExceeded) {
		found.says = fmt.Sprintf("%s did not answer within %v", whose, callWithin)
	}
	return found
}

var groups = []group{awsChecks, keyChecks, directoryChecks, snowflakeChecks}

func judge(f *facts, groups []group) *Report {
	r := new(Report)
	blocking := map[string]string{} // checks that leave nothing to judge, and why that is
	for _, g := range groups {
		why := g.applies(f)
		for _, c := range g.checks {
			found := skip(why)
			if why == "" {
				found = c.find(f, blocking)
			}
			if found.blocks {
				blocking[c.name] = found.says
				if found.state == Fail {
					blocking[c.name] = c.name + " failed"
				}
			}
			r.Checks = append(r.Checks, Result{Check: c.name, State: found.state, Says: oneLine(found.says), Do: oneLine(found.do)})
		}
	}
	r.Failed, r.Warnings = r.count(Fail), r.count(Warn)
	return r
}

func (c check) find(f *facts, blocking map[string]string) finding {
	for _, needed := range c.needs {
		if why, found := blocking[needed]; found {
			return blocked(why)
		}
	}
	return c.judge(f)
}

// oneLine is for errors that come from elsewhere.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
