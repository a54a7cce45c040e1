package snowflake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"
)

// Reach waits for an answer of any kind, without a login, and returns its time by Snowflake's clock, zero if it has
// none.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(request{path: "/"}).String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return time.Time{}, err
	}
	resp.Body.Close()
	return date(resp), nil
}

// Address is where the client sends its requests, such as https://ACCOUNT.snowflakecomputing.com.
func (c *Client) Address() string { return c.url(request{}).String() }

// wrongAddress reports whether account, host, port or protocol are wrong: an outage gives none of these errors. What a
// proxy is about is not known.
func wrongAddress(err error) bool {
	if op, found := errors.AsType[*net.OpError](err); found && op.Op == "proxyconnect" {
		return false
	}
	if dns, found := errors.AsType[*net.DNSError](err); found {
		return dns.IsNotFound
	}
	_, otherName := errors.AsType[x509.HostnameError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return otherName || noTLS || errors.Is(err, http.ErrSchemeMismatch)
}

// foreign reports whether an answer is of a server that knows nothing of the account, or is not Snowflake at all.
func (r *reply) foreign() bool {
	switch r.status {
	case http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusUnauthorized:
		return false
	}
	return r.status >= 400 && r.status < 500 && r.answer.Code == ""
}
