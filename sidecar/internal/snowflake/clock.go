package snowflake

import (
	"fmt"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const (
	// minSkew is the difference between two clocks from which a refusal may be due to it.
	minSkew = 20 * time.Second
	// maxSkew is the most that a token is signed ahead of this machine's time because an answer has a later Date: an
	// hour, by which a clock in the wrong time zone or without daylight saving is off, and a minute of drift.
	// Another server that answers in Snowflake's place gets no token that is good later than that.
	maxSkew = time.Hour + time.Minute
)

func (r *reply) skew() time.Duration {
	if r.date.IsZero() {
		return 0
	}
	return r.date.Sub(r.sent).Abs()
}

func (r *reply) correctable() bool { return r.skew() >= minSkew && r.skew() <= maxSkew }

// clockRefused reports whether a login was refused for the time in its token, as far as Snowflake tells.
func (r *reply) clockRefused() bool {
	switch r.answer.Code {
	case "394302", "394303": // issue time, expiration time
		return true
	case "390144": // which says nothing but that the token is invalid
		return r.skew() > maxSkew
	default:
		return false
	}
}

// wrongClock is of class other: Snowflake has said nothing about the key, and the clock may be set at any moment.
func (c *Client) wrongClock(r *reply) error {
	err := fmt.Errorf("Snowflake refuses the time in the login token: %s", r.text())
	if r.skew() >= minSkew {
		err = fmt.Errorf("%w (this machine's clock says %s, that of %s says %s)", err,
			r.sent.UTC().Format(time.RFC3339), c.host(), r.date.UTC().Format(time.RFC3339))
	}
	return failure.New(keyfile.ClassOther, err, "set this machine's clock: Snowflake accepts a token for a minute from its issue time")
}
