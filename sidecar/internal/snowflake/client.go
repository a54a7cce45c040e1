// Package snowflake has Snowflake's names as types, and talks to Snowflake as a key's user, through its SQL API and with
// a key-pair JWT: it asks whether a key is accepted, and runs single statements. It needs no driver and opens no session.
//
// It never sends a key anywhere: what leaves the process is a signature.
package snowflake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/network"
)

const (
	callTimeout   = 20 * time.Second
	retryInterval = time.Second / 2
)

// A Client talks to one account as one user.
type Client struct {
	Account   Account
	Login     Login  // for tokens
	User      string // the name, for statements; "" until [Client.Identify] has found it
	Role      Role   // "" for the user's default
	Host      string // "" for the account's own
	Port      int    // 0 for the protocol's own
	Protocol  string // "" for https
	UserAgent string // Snowflake requires one
	Key       string // the name of the --key that says who logs in, for advice; "" with one key

	HTTP          *http.Client  // for its Transport alone; nil for one with timeouts of its own
	RetryInterval time.Duration // between polls of a statement, and between attempts; 0 for half a second
}

// Accepts returns nil when Snowflake accepts key for the user.
//
// A refusal of the key or the user is a [*failure.Error] of class snowflake_refused. One of class network is an outage, or
// a network policy. Any other error is of class other: it does not pass by itself, since this machine's time, the account,
// the host, the port, the protocol, the proxy or what is trusted are wrong.
func (c *Client) Accepts(ctx context.Context, key *keyfile.Key) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.sendSigned(ctx, key, c.submission("SELECT CURRENT_USER()"))
	switch {
	case err != nil && isOutageError(err):
		return err
	case err != nil:
		return asOther(err)
	case r.loggedIn():
		return nil
	case r.isOutage():
		return c.failed(key, r)
	}
	return asOther(c.failed(key, r))
}

// asOther turns class network into other: for a login it does not matter whether a statement has run.
func asOther(err error) error {
	if e, ok := errors.AsType[*failure.Error](err); ok && e.Class == keyfile.ClassNetwork {
		return failure.New(keyfile.ClassOther, e.Unwrap(), e.Advice)
	}
	return err
}

// loggedIn reports whether the key was accepted. 422 is a statement that failed, after a login that did not.
// An answer without a code is not Snowflake's: a proxy answers with 200, too.
func (r *reply) loggedIn() bool {
	answered := r.status == http.StatusOK || r.status == http.StatusAccepted || r.status == http.StatusUnprocessableEntity
	return answered && r.answer.Code != ""
}

// networkPolicy is the code for an address from which Snowflake refuses every login.
const networkPolicy = "390422"

// refusesLogin reports whether Snowflake refuses a login with this code.
func refusesLogin(code string) bool {
	return len(code) == len("390100") && (strings.HasPrefix(code, "3901") || strings.HasPrefix(code, "3943"))
}

// refused reports whether Snowflake refuses the login. A 401 without a code may be of another service.
func (r *reply) refused() bool {
	return r.status == http.StatusUnauthorized && r.answer.Code != "" || r.status >= 400 && r.status < 500 && refusesLogin(r.answer.Code)
}

// addressAdvice is the advice if the address may be wrong: the settings that make it up.
func (c *Client) addressAdvice() string {
	settings := []string{c.setting("account")}
	if c.Host != "" {
		settings[0] = "SNOWFLAKE_HOST"
	}
	if c.Port != 0 {
		settings = append(settings, "SNOWFLAKE_PORT")
	}
	if c.Protocol != "" {
		settings = append(settings, "SNOWFLAKE_PROTOCOL")
	}
	return "check " + strings.Join(settings, ", ")
}

// setting says where a part of the login is set.
func (c *Client) setting(name string) string {
	variable := "SNOWFLAKE_" + strings.ToUpper(name)
	if c.Key == "" {
		return variable
	}
	return fmt.Sprintf("%s= of key %s or %s", name, c.Key, variable)
}

func (c *Client) notReached(err error) error {
	err = failure.Clean(err)
	cause := fmt.Errorf("Snowflake was not reached: %w", err)
	advice := network.Advice(err, c.url(request{}))
	switch {
	case isOutageError(err):
		way := c.addressAdvice() + ", and the way to " + c.url(request{}).Host + " (NAT gateway or PrivateLink, network policy)"
		return failure.New(keyfile.ClassNetwork, cause, cmp.Or(advice, way))
	case wrongHost(err):
		return failure.New(keyfile.ClassOther, fmt.Errorf("no Snowflake at %s: %w", c.host(), err), c.addressAdvice())
	case sentNothing(err):
		return failure.New(keyfile.ClassOther, cause, cmp.Or(advice, c.addressAdvice()))
	}
	return failure.New(keyfile.ClassNetwork, cause, cmp.Or(advice, c.addressAdvice())) // the request may have been sent
}

// failed explains an answer that is neither a result nor a statement's error.
func (c *Client) failed(key *keyfile.Key, r *reply) error {
	if r.answer.Code == networkPolicy {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("a network policy of Snowflake refuses this address: %s", r.text()),
			"allow this machine's address in the network policy of the account or of user "+c.name())
	}
	if r.refused() {
		return c.refusal(key, r)
	}
	answered := errors.New(strings.TrimSpace(fmt.Sprintf("Snowflake at %s answered %d %s %s %s",
		c.host(), r.status, http.StatusText(r.status), r.answer.Code, r.answer.Message)))
	advice := c.addressAdvice() + ", and the account's network policy"
	switch {
	case r.redirect != "":
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("%w and points to %s, which is not followed: it would get the login token", answered, r.redirect),
			"set SNOWFLAKE_HOST to the host that answers without a redirect")
	case r.transient():
		return failure.New(keyfile.ClassNetwork, answered, "nothing to do here: it is retried")
	case r.status == http.StatusProxyAuthRequired:
		return failure.New(keyfile.ClassOther, answered, cmp.Or(network.Advice(answered, c.url(request{})), advice))
	case r.status >= http.StatusBadRequest && r.status < http.StatusInternalServerError, r.status == noAccount:
		return failure.New(keyfile.ClassOther, answered, advice)
	}
	return failure.New(keyfile.ClassNetwork, answered, advice) // which leaves open whether a statement has run
}

// name is what messages call the user: as it was typed, until its name is known.
func (c *Client) name() string { return cmp.Or(c.User, string(c.Login)) }

// noAccount is Snowflake's answer for a host of no account, beside 403 and 404.
const noAccount = 513

// transient reports whether the same request may have another answer soon.
func (r *reply) transient() bool {
	return r.status == http.StatusInternalServerError || network.IsTransient(r.status)
}

func (c *Client) refusal(key *keyfile.Key, r *reply) error {
	if r.clockRefused() {
		return c.wrongClock(r)
	}
	user := c.userInAdvice()
	what := fmt.Sprintf("the key %s for user %s", key.Fingerprint(), c.name())
	advice := fmt.Sprintf("compare it with DESC USER %s, and assign it: ALTER USER %s SET RSA_PUBLIC_KEY_2='...'", user, user)
	switch r.answer.Code {
	case "394300":
		advice = "check " + c.setting("user") + ": the account has no user with this LOGIN_NAME, which need not be the user's name (DESC USER shows both)"
	case "390101":
		what = "user " + c.name()
		advice = fmt.Sprintf("enable the user: ALTER USER %s SET DISABLED = FALSE", user)
	case "390102":
		what = "user " + c.name()
		advice = fmt.Sprintf("unlock the user: ALTER USER %s SET MINS_TO_UNLOCK = 0", user)
	case "390186", "390189":
		what = "user " + c.name()
		advice = fmt.Sprintf("set %s to a role of the user's (SHOW GRANTS TO USER %s), or give the user a DEFAULT_ROLE that it has", c.setting("role"), user)
		if c.Role != "" {
			advice = fmt.Sprintf("correct %s, or GRANT ROLE %s TO USER %s", c.setting("role"), Identifier(string(c.Role)), user)
		}
	case "394307":
		advice = "check " + c.setting("account") + ": the token names another account than the one that answers"
	}
	return failure.New(keyfile.ClassSnowflake, fmt.Errorf("Snowflake refuses %s: %s", what, r.text()), advice)
}
