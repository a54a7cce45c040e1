// Package sqlapi asks Snowflake, through its SQL API and with a key-pair JWT, whether it accepts a
// key. It needs no driver and opens no session.
//
// It never sends a key anywhere: what leaves the process is a signature.
package sqlapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const (
	callTimeout = 20 * time.Second
	jwtLifetime = time.Minute
	maxAnswer   = 1 << 20
)

// Refusals that a wrong clock causes.
const (
	codeIssueTime = "394302"
	codeExpired   = "394303"
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
	token, err := c.token(key, time.Now())
	if err != nil {
		return err
	}
	status, body, err := c.post(ctx, token, "SELECT CURRENT_USER()")
	if err != nil {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("Snowflake was not reached: %w", err),
			"check SNOWFLAKE_ACCOUNT and the way to "+c.host()+" (NAT gateway or PrivateLink, network policy)")
	}
	var answer answer
	_ = json.Unmarshal(body, &answer) // a gateway's error has another body, or none
	switch {
	// 422 is a statement that failed, after a login that did not.
	case status == http.StatusOK, status == http.StatusAccepted, status == http.StatusUnprocessableEntity:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden && refusals.MatchString(answer.Code):
		return c.refusal(key, answer)
	}
	do := "check SNOWFLAKE_ACCOUNT and SNOWFLAKE_HOST, and the account's network policy"
	if status >= 500 || status == http.StatusTooManyRequests {
		do = "nothing to do here: the sidecar tries again"
	}
	return failure.New(keyfile.ClassNetwork, fmt.Errorf("Snowflake at %s answered %d %s %s %s",
		c.host(), status, http.StatusText(status), answer.Code, answer.Message), do)
}

// An answer is what Snowflake says of an error.
type answer struct{ Code, Message string }

// refusals are the codes by which Snowflake refuses a login.
var refusals = regexp.MustCompile(`^(3901|3943)\d\d$`)

func (c *Client) refusal(key *keyfile.Key, answer answer) error {
	do := fmt.Sprintf("compare it with DESC USER %s, and assign it: ALTER USER %s SET RSA_PUBLIC_KEY_2='...'", c.User, c.User)
	if answer.Code == codeIssueTime || answer.Code == codeExpired {
		do = "set this machine's clock: Snowflake accepts a token for a minute from its issue time"
	}
	return failure.New(keyfile.ClassSnowflake,
		fmt.Errorf("Snowflake refuses the key %s for user %s: %s %s", key.Fingerprint(), c.User, answer.Code, answer.Message), do)
}

func (c *Client) post(ctx context.Context, token, statement string) (status int, body []byte, err error) {
	request, err := json.Marshal(map[string]any{"statement": statement, "timeout": 10, "role": c.Role})
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(), bytes.NewReader(request))
	if err != nil {
		return 0, nil, err
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
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}

func (c *Client) token(key *keyfile.Key, now time.Time) (string, error) {
	subject := strings.ToUpper(accountName(c.Account) + "." + c.User)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": subject + "." + key.Fingerprint(),
		"sub": subject,
		"iat": now.Unix(),
		"exp": now.Add(jwtLifetime).Unix(),
	}).SignedString(key.RSA())
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

func (c *Client) url() string {
	protocol, host := c.Protocol, c.host()
	if protocol == "" {
		protocol = "https"
	}
	if c.Port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(c.Port))
	}
	return protocol + "://" + host + "/api/v2/statements"
}
