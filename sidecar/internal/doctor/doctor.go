// Package doctor finds out why a task has no key, or one that Snowflake refuses. It first gathers facts about this
// process, AWS, the key, the key directory, the clocks and Snowflake, and then judges them in small checks, each of
// which says the one thing to do.
//
// It never changes anything, in AWS, in Snowflake or on disk; never waits longer than [Timeout]; and never prints a
// secret, nor user and password of an address.
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
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// A State is the outcome of a check.
type State string

// The states.
const (
	OK   State = "ok"
	Warn State = "warn" // works, and may not be what was meant
	Fail State = "fail"
	Skip State = "skip" // not checked
)

// A Result is one line of a Report.
type Result struct {
	Key    string `json:"key,omitempty"` // its name, where there are several
	Check  string `json:"check"`
	State  State  `json:"state"`
	Says   string `json:"says"`             // the finding, or why there is none
	Advice string `json:"advice,omitempty"` // the one thing to do
}

// A Connect returns the client of a key's user. The settings name the user, or else the secret that holds the key.
type Connect func(config.Snowflake, decrypt.Login) *snowflake.Client

// Run checks this process and the settings once, and all keys at the same time.
func Run(ctx context.Context, c *config.DoctorConfig, connect Connect) *Report {
	reports := make([]*Report, 2+len(c.Keys))
	reports[0], reports[1] = judge(nil, processGroups), judgeSettings(c)
	var keys sync.WaitGroup
	for i, k := range c.Keys {
		keys.Go(func() { reports[2+i] = judge(gather(ctx, c, k, connect), keyGroups).of(k.Name) })
	}
	keys.Wait()
	return join(reports)
}

// A group is checks that all apply, or none of them.
type group struct {
	applies func(*facts) (why string) // "" when they do, otherwise why not
	checks  []check
}

// A check judges one thing.
type check struct {
	name  string
	needs []string // earlier checks that have to succeed first
	judge func(*facts) finding
}

// A finding is a result without the check's name.
type finding struct {
	state        State
	says, advice string
	blocks       bool // the checks that need this one are skipped
}

func ok(says string) finding           { return finding{state: OK, says: says} }
func warn(says, advice string) finding { return finding{state: Warn, says: says, advice: advice} }
func fail(says, advice string) finding {
	return finding{state: Fail, says: says, advice: advice, blocks: true}
}

// skip is for what need not be checked.
func skip(why string) finding { return finding{state: Skip, says: why} }

// blocked is for what cannot be checked.
func blocked(why string) finding { return finding{state: Skip, says: why, blocks: true} }

// failed splits an error into cause and advice.
func failed(err error) finding {
	says, advice := err.Error(), ""
	if e, ok := errors.AsType[*failure.Error](err); ok {
		says, advice = e.Unwrap().Error(), e.Advice
	}
	return fail(says, cmp.Or(advice, "search the documentation of AWS or Snowflake for this error"))
}

// callFailed is failed for the error of a call to service, which may have taken too long.
func callFailed(err error, service string) finding {
	found := failed(err)
	if errors.Is(err, context.DeadlineExceeded) {
		found.says = fmt.Sprintf("%s did not answer within %v", service, callTimeout)
	}
	return found
}

var (
	processGroups = []group{processChecks}
	keyGroups     = []group{awsChecks, keyChecks, directoryChecks, snowflakeChecks}
)

func judge(f *facts, groups []group) *Report {
	r := new(Report)
	blocking := map[string]string{} // by check, the reason to skip those that need it
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
			r.Checks = append(r.Checks, Result{Check: c.name, State: found.state, Says: printable(found.says), Advice: printable(found.advice)})
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

// printable is one line, and has no password: errors of libraries repeat the addresses that settings name.
func printable(text string) string {
	return strings.Join(strings.Fields(failure.WithoutUserinfo(text)), " ")
}
