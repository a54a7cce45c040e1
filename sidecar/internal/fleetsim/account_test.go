// Package fleetsim runs the loops of a whole fleet, the real ones, on simulated time, against the limit that they
// share with everything else in an AWS account. It has tests only; make fleetsim writes what they find into
// docs/performance.md.
package fleetsim

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
)

// burst is how many calls the account can have at once. AWS does not publish it.
const burst = 40

// othersPart is which part of the limit others ask for.
const othersPart = 8

// An account is SSM with a limit on calls, which the fleet shares with others. Their calls come at random, at a rate
// that is theirs whatever the limit, and they do not repeat one that was throttled.
type account struct {
	mu     sync.Mutex
	limit  float64 // calls a second
	others float64 // calls a second
	down   bool    // no call gets an answer, or is counted
	text   string  // of the key
	stored types.Parameter

	tokens    float64
	filled    time.Time
	nextOther time.Time
	began     time.Time
	seconds   []second // since then
}

// A second is what was called in it.
type second struct{ fleet, throttled, others, othersThrottled int }

func newAccount(limit float64) *account {
	now := time.Now()
	return &account{limit: limit, others: limit / othersPart, tokens: burst, filled: now, nextOther: now, began: now}
}

// store makes a new version of the key.
func (a *account) store(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.text = text
	a.stored = types.Parameter{Name: aws.String("/app/key"), ARN: aws.String(parameter), Type: types.ParameterTypeSecureString, Version: a.stored.Version + 1, LastModifiedDate: &now}
}

// change is for what is set from outside.
func (a *account) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass(time.Now())
	do()
}

// allow changes the limit, and what the others ask for with it.
func (a *account) allow(limit float64) {
	a.change(func() { a.limit, a.others = limit, limit/othersPart })
}

// GetParameters is the fleet's call.
func (a *account) GetParameters(_ context.Context, in *ssm.GetParametersInput, _ ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.pass(now)
	s := a.second(now)
	s.fleet++
	if a.down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("down")}
	}
	if !a.take(now) {
		s.throttled++
		return nil, &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
	}
	p := a.stored
	p.Value = aws.String("AQICAHh")
	if *in.WithDecryption {
		p.Value = &a.text
	}
	return &ssm.GetParametersOutput{Parameters: []types.Parameter{p}}, nil
}

// pass has the others call until now.
func (a *account) pass(now time.Time) {
	for !a.nextOther.After(now) {
		if at := a.nextOther; !a.down {
			s := a.second(at)
			s.others++
			if !a.take(at) {
				s.othersThrottled++
			}
		}
		a.nextOther = a.nextOther.Add(time.Duration(rand.ExpFloat64() / a.others * float64(time.Second)))
	}
}

func (a *account) take(now time.Time) bool {
	a.tokens = math.Min(burst, a.tokens+now.Sub(a.filled).Seconds()*a.limit)
	a.filled = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}

func (a *account) second(at time.Time) *second {
	i := int(at.Sub(a.began) / time.Second)
	for len(a.seconds) <= i {
		a.seconds = append(a.seconds, second{})
	}
	return &a.seconds[i]
}

// between are the seconds of a time, which begins and ends as long after the start.
func (a *account) between(from, to time.Duration) calls {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass(time.Now())
	a.second(time.Now())
	return slices.Clone(a.seconds[int(from/time.Second):min(int(to/time.Second), len(a.seconds))])
}

// calls are those of some seconds.
type calls []second

func (c calls) sum() (all second) {
	for _, s := range c {
		all.fleet += s.fleet
		all.throttled += s.throttled
		all.others += s.others
		all.othersThrottled += s.othersThrottled
	}
	return all
}

// rate is the fleet's calls a second.
func (c calls) rate() float64 { return float64(c.sum().fleet) / float64(max(1, len(c))) }

// share of the fleet's calls that were throttled, and of the others'.
func (c calls) share() (fleet, others float64) {
	s := c.sum()
	return float64(s.throttled) / float64(max(1, s.fleet)), float64(s.othersThrottled) / float64(max(1, s.others))
}

// peak is the highest rate in any window of so many seconds.
func (c calls) peak(window int) float64 {
	highest, in := 0, 0
	for i, s := range c {
		in += s.fleet
		if i >= window {
			in -= c[i-window].fleet
		}
		highest = max(highest, in)
	}
	return float64(highest) / float64(window)
}

// dispersion is the variance of the calls in a window as a share of their mean: 1 if the calls know nothing of each
// other, more if they come together.
func (c calls) dispersion(window int) float64 {
	var n, sum, squares float64
	for ; len(c) >= window; c = c[window:] {
		x := float64(c[:window].sum().fleet)
		n, sum, squares = n+1, sum+x, squares+x*x
	}
	mean := sum / n
	return (squares/n - mean*mean) / mean
}
