package doctor

import (
	"fmt"
	"time"
)

// Snowflake refuses a token that is a minute off. Half a minute leaves no room for a slow login; a clock that is
// synchronised at all is within milliseconds.
const (
	skewWarns = 5 * time.Second
	skewFails = 30 * time.Second
)

func judgeClock(a answer, service string) finding {
	if a.date.IsZero() {
		return skip(service + " did not say what time it is")
	}
	ahead := a.ahead()
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	says := fmt.Sprintf("this machine is %v %s %s", ahead.Abs().Round(time.Second), direction, service)
	advice := "synchronise the host's clock, for instance with chrony: Snowflake refuses a token that is a minute off"
	switch {
	case ahead.Abs() >= skewFails:
		return fail(says, advice)
	case ahead.Abs() >= skewWarns:
		return warn(says, advice)
	case ahead.Abs() < 2*time.Second: // Date is cut to the second
		return ok("this machine agrees with " + service)
	default:
		return ok(says)
	}
}
