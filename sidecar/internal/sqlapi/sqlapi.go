// Package sqlapi talks to Snowflake as a key's user, through its SQL API and with a key-pair JWT: it asks
// whether a key is accepted, and runs single statements. It needs no driver and opens no session.
//
// It never sends a key anywhere: what leaves the process is a signature.
package sqlapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const (
	callTimeout = 20 * time.Second
	jwtLifetime = time.Minute
	maxAnswer   = 1 << 20
	// skewed is the difference between two clocks from which a refusal may be due to it.
	skewed = 20 * time.Second
)

// A Client talks to one account as one user.
type Client struct {
	Account   string // identifier, with or without region
	User      string
	Role      string // "" for the user's default
	Host      string // "" for ACCOUNT.snowflakecomputing.com
	Port      int    // 0 for the protocol's own
	Protocol  string // "" for https
	UserAgent string // Snowflake requires one

	HTTP *http.Client // nil for http.DefaultClient
}

// Accepts returns nil when Snowflake accepts key for the user.
//
// A refusal is a *failure.Error of class snowflake_refused; no answer is one of class network.
func (c *Client) Accepts(ctx context.Context, key *keyfile.Key) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.ask(ctx, key, c.submission("SELECT CURRENT_USER()"))
	if err != nil {
		return err
	}
	if r.loggedIn() {
		return nil
	}
	return c.failed(key, r)
}

// A request is one call without its login.
type request struct {
	method string
	path   string
	query  url.Values
	body   []byte
}

func (c *Client) submission(statement string) request {
	body, _ := json.Marshal(map[string]any{"statement": statement, "timeout": 10, "role": c.Role})
	return request{
		method: http.MethodPost, path: "/api/v2/statements", body: body,
		query: url.Values{"requestId": {requestID()}},
	}
}

// requestID is a random UUID (version 4), by which Snowflake knows a request that is sent twice.
func requestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // which never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// A reply is whatever answered.
type reply struct {
	status int
	date   time.Time // zero if it has none
	answer answer
}

// An answer is what Snowflake answers, as far as it matters here.
type answer struct {
	Code               string
	SQLState           string
	Message            string
	StatementStatusURL string
	ResultSetMetaData  struct{ RowType []struct{ Name string } }
	Data               [][]*string
}

// loggedIn reports whether the key was accepted. 422 is a statement that failed, after a login that did not.
// What has no code is not Snowflake's: a proxy answers with 200, too.
func (r *reply) loggedIn() bool {
	answered := r.status == http.StatusOK || r.status == http.StatusAccepted || r.status == http.StatusUnprocessableEntity
	return answered && r.answer.Code != ""
}

// networkPolicy is the code for an address from which nobody may log in, whatever the key.
const networkPolicy = "390422"

// refusals are the codes by which Snowflake refuses a login.
var refusals = regexp.MustCompile(`^(3901|3943)\d\d$`)

func (r *reply) refused() bool {
	return r.status == http.StatusUnauthorized || r.status == http.StatusForbidden && refusals.MatchString(r.answer.Code)
}

// ask signs a request and sends it. A login that is refused while the two clocks differ is tried once more
// by Snowflake's: whether the key is right is one question, whether the clock is another.
func (c *Client) ask(ctx context.Context, key *keyfile.Key, r request) (*reply, error) {
	now := time.Now()
	answered, err := c.send(ctx, key, r, now)
	if err != nil || !answered.refused() || answered.date.IsZero() || now.Sub(answered.date).Abs() < skewed {
		return answered, err
	}
	return c.send(ctx, key, r, answered.date)
}

func (c *Client) send(ctx context.Context, key *keyfile.Key, r request, now time.Time) (*reply, error) {
	token, err := c.token(key, now)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r), bytes.NewReader(r.body))
	if err != nil {
		return nil, c.notReached(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.UserAgent)
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.notReached(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.notReached(err)
	}
	out := &reply{status: resp.StatusCode}
	out.date, _ = http.ParseTime(resp.Header.Get("Date"))
	_ = json.Unmarshal(body, &out.answer) // a gateway's error has another body, or none
	return out, nil
}

func (c *Client) notReached(err error) error {
	return failure.New(keyfile.ClassNetwork, fmt.Errorf("Snowflake was not reached: %w", err),
		"check SNOWFLAKE_ACCOUNT and the way to "+c.host()+" (NAT gateway or PrivateLink, network policy)")
}

// failed explains an answer that is neither a result nor a statement's error.
func (c *Client) failed(key *keyfile.Key, r *reply) error {
	if r.answer.Code == networkPolicy {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("Snowflake lets nobody in from here: %s %s", r.answer.Code, r.answer.Message),
			"allow this machine's address in the network policy of the account or of user "+c.User)
	}
	if r.refused() {
		return c.refusal(key, r)
	}
	do := "check SNOWFLAKE_ACCOUNT and SNOWFLAKE_HOST, and the account's network policy"
	if r.mayPass() {
		do = "nothing to do here: it is tried again"
	}
	return failure.New(keyfile.ClassNetwork, fmt.Errorf("Snowflake at %s answered %d %s %s %s",
		c.host(), r.status, http.StatusText(r.status), r.answer.Code, r.answer.Message), do)
}

func (r *reply) mayPass() bool { return r.status >= 500 || r.status == http.StatusTooManyRequests }

func (c *Client) refusal(key *keyfile.Key, r *reply) error {
	user := Identifier(c.User)
	what := fmt.Sprintf("the key %s for user %s", key.Fingerprint(), c.User)
	do := fmt.Sprintf("compare it with DESC USER %s, and assign it: ALTER USER %s SET RSA_PUBLIC_KEY_2='...'", user, user)
	switch r.answer.Code {
	case "394302", "394303":
		do = "set this machine's clock: Snowflake accepts a token for a minute from its issue time"
	case "394300":
		do = "check SNOWFLAKE_USER: the account has no such user, or not under this name"
	case "390101":
		what = "user " + c.User
		do = fmt.Sprintf("enable the user: ALTER USER %s SET DISABLED = FALSE", user)
	case "390102":
		what = "user " + c.User
		do = fmt.Sprintf("unlock the user: ALTER USER %s SET MINS_TO_UNLOCK = 0", user)
	case "390186", "390189":
		what = "user " + c.User
		do = fmt.Sprintf("correct SNOWFLAKE_ROLE, or GRANT ROLE %s TO USER %s", Identifier(c.Role), user)
	case "394307":
		do = "check SNOWFLAKE_ACCOUNT: the token names another account than the one that answers"
	}
	return failure.New(keyfile.ClassSnowflake, fmt.Errorf("Snowflake refuses %s: %s %s", what, r.answer.Code, r.answer.Message), do)
}

func (c *Client) token(key *keyfile.Key, now time.Time) (token string, err error) {
	secret.Do(func() { token, err = c.sign(key, now) })
	return token, err
}

func (c *Client) sign(key *keyfile.Key, now time.Time) (string, error) {
	// A private key for this signature: key.RSA would keep one for as long as there is the key.
	der := keyfile.DER.Encode(key)
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return "", errors.New("the login token could not be signed")
	}
	subject := strings.ToUpper(accountName(c.Account) + "." + c.User)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": subject + "." + key.Fingerprint(),
		"sub": subject,
		"iat": now.Unix(),
		"exp": now.Add(jwtLifetime).Unix(),
	}).SignedString(private)
	if err != nil {
		return "", errors.New("the login token could not be signed")
	}
	return signed, nil
}

// accountName drops the region and cloud from an account identifier: a token names the account alone.
func accountName(identifier string) string {
	name, region, _ := strings.Cut(identifier, ".")
	if region == "global" {
		name, _, _ = strings.Cut(name, "-")
	}
	return name
}

func (c *Client) host() string {
	if c.Host != "" {
		return c.Host
	}
	return c.Account + ".snowflakecomputing.com"
}

func (c *Client) url(r request) string {
	u := url.URL{Scheme: c.Protocol, Host: c.host(), Path: r.path, RawQuery: r.query.Encode()}
	if u.Scheme == "" {
		u.Scheme = "https"
	}
	if c.Port != 0 {
		u.Host = net.JoinHostPort(u.Host, strconv.Itoa(c.Port))
	}
	return u.String()
}
