package doctor

import (
	"fmt"
	"time"
)

// Snowflake refuses a token beyond a minute, and accepts none from far in the future. Half a minute leaves no
// room for a slow login; a clock that is kept at all is within milliseconds.
const (
	skewWarns = 5 * time.Second
	skewFails = 30 * time.Second
)

func judgeClock(a answer, whose string) finding {
	if a.date.IsZero() {
		return skip(whose + " did not say what time it is")
	}
	ahead := a.ahead()
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	says := fmt.Sprintf("this machine is %v %s %s", ahead.Abs().Round(time.Second), direction, whose)
	do := "have chrony or another NTP client keep the clock of the host: Snowflake refuses a token that is a minute off"
	switch {
	case ahead.Abs() >= skewFails:
		return fail(says, do)
	case ahead.Abs() >= skewWarns:
		return warn(says, do)
	case ahead.Abs() < 2*time.Second: // Date is cut to the second
		return ok("this machine agrees with " + whose)
	default:
		return ok(says)
	}
}
