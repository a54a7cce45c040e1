package snowflake

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/network"
)

const statementsPath = "/api/v2/statements"

// maxAnswer is for DESC USER and SHOW USER KEY PAIRS, which take tens of kilobytes. Decoded, an answer takes up to
// twenty times as much.
const maxAnswer = 256 << 10

var errTooLong = fmt.Errorf("longer than %d kB", maxAnswer>>10)

// transport keeps no connection: a login is rare, and a request on a new connection is never sent twice.
var transport = sync.OnceValue(func() http.RoundTripper {
	return &http.Transport{
		Proxy:                  network.Proxy,
		OnProxyConnectResponse: network.CheckProxyAnswer,
		TLSClientConfig:        &tls.Config{RootCAs: network.Roots(), MinVersion: tls.VersionTLS12},
		DialContext:            (&net.Dialer{Timeout: callTimeout / 2}).DialContext,
		TLSHandshakeTimeout:    callTimeout / 2,
		ResponseHeaderTimeout:  callTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true,
	}
})

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
		method: http.MethodPost, path: statementsPath, body: body,
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

// A reply is an HTTP answer, of Snowflake or of what stands in its place.
type reply struct {
	status   int
	redirect string    // where it points, for an error; "" if nowhere
	sent     time.Time // the issue time of the token, which is this machine's time unless Snowflake's was taken
	date     time.Time // by Snowflake's clock; zero if the answer has none
	answer   answer
}

// An answer has the fields of Snowflake's answer that matter here.
type answer struct {
	Code               string
	SQLState           string
	Message            string
	StatementStatusURL string
	ResultSetMetaData  struct{ RowType []struct{ Name string } }
	Data               [][]*string
}

// text is Snowflake's code and message, or the HTTP status of an answer without them.
func (r *reply) text() string {
	return cmp.Or(strings.TrimSpace(r.answer.Code+" "+r.answer.Message), fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)))
}

// decode reads an answer. It is the one place where texts of Snowflake enter; cells of results stay as they are, since
// a name with other characters is another name. A gateway's error has another body, or none.
func decode(body []byte) answer {
	var a answer
	_ = json.Unmarshal(body, &a)
	a.Code, a.SQLState, a.Message = failure.Text(a.Code), failure.Text(a.SQLState), failure.Text(a.Message)
	if strings.ContainsFunc(a.Code, func(r rune) bool { return r < '0' || r > '9' }) { // another service's
		a.Code, a.Message = "", failure.Text(a.Code+" "+a.Message)
	}
	return a
}

// sendSigned signs a request and sends it. A login that is refused while the clocks differ is sent once more with
// Snowflake's time, if a wrong clock explains the difference.
func (c *Client) sendSigned(ctx context.Context, key *keyfile.Key, r request) (*reply, error) {
	got, err := c.sendAt(ctx, key, r, time.Now())
	if err != nil || !got.refused() || !got.correctable() {
		return got, err
	}
	return c.sendAt(ctx, key, r, got.date)
}

func (c *Client) sendAt(ctx context.Context, key *keyfile.Key, r request, now time.Time) (*reply, error) {
	token, err := c.token(key, now)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r).String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, c.notReached(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	got, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	got.sent = now
	return got, nil
}

// exchange sends a request once, and reads the answer.
func (c *Client) exchange(req *http.Request) (*reply, error) {
	resp, err := c.do(req)
	if err != nil {
		return nil, c.notReached(err)
	}
	defer resp.Body.Close()
	if c.Protocol == "http" { // a proxy answers plain HTTP itself
		if answer, found := errors.AsType[*network.ProxyAnswer](network.CheckProxyAnswer(req.Context(), nil, req, resp)); found && answer.NoSuchHost {
			return nil, c.notReached(answer)
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.notReached(err)
	}
	if len(body) > maxAnswer {
		return nil, failure.New(keyfile.ClassNetwork, fmt.Errorf("the answer of %s is %w", c.host(), errTooLong),
			c.addressAdvice()+": no answer of Snowflake to this request is that long")
	}
	return &reply{status: resp.StatusCode, redirect: redirect(resp), date: date(resp), answer: decode(body)}, nil
}

// do sends a request once. A RoundTripper follows no redirect and keeps no cookie.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", c.UserAgent)
	through := transport()
	if c.HTTP != nil && c.HTTP.Transport != nil {
		through = c.HTTP.Transport
	}
	resp, err := through.RoundTrip(req)
	if err != nil {
		return nil, failure.Clean(err)
	}
	return resp, nil
}

// redirect is the address that an answer points to, without the parts that may be secret.
func redirect(resp *http.Response) string {
	if resp.StatusCode < 300 || resp.StatusCode > 399 {
		return ""
	}
	to, err := resp.Location()
	if err != nil || to.Host == "" {
		return "no address"
	}
	return failure.Text(to.Scheme + "://" + to.Host + to.EscapedPath())
}

func date(resp *http.Response) time.Time {
	d, _ := http.ParseTime(resp.Header.Get("Date"))
	return d
}

func (c *Client) host() string {
	return cmp.Or(c.Host, c.Account.Host())
}

func (c *Client) url(r request) *url.URL {
	u := &url.URL{Scheme: cmp.Or(c.Protocol, "https"), Host: c.host(), Path: r.path, RawQuery: r.query.Encode()}
	switch {
	case c.Port != 0:
		u.Host = net.JoinHostPort(u.Host, strconv.Itoa(c.Port))
	case strings.Contains(u.Host, ":"): // IPv6
		u.Host = "[" + u.Host + "]"
	}
	return u
}
