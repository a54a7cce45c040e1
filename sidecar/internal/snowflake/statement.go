package snowflake

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

const maxAttempts = 3 // at one request that gets no answer, a transient error or a redirect

// A Result is the answer to a statement.
type Result struct {
	Columns []string
	Rows    [][]string // as Snowflake sends them, which [failure.Text] makes fit for a message; "" for NULL
	Date    time.Time  // by Snowflake's clock, to the second; zero if the answer had none
}

// A StatementError is a statement that Snowflake refused or could not run. The login was accepted.
type StatementError struct {
	Code     string // such as 003001, insufficient privileges
	SQLState string
	Message  string
}

func (e *StatementError) Error() string {
	return fmt.Sprintf("Snowflake: %s (%s): %s", e.Code, e.SQLState, e.Message)
}

// Query runs one statement as the key's user and waits for its end.
//
// A request without an answer is sent again under its own id, by which Snowflake knows one that it has run.
// Errors are *StatementError, or *failure.Error as from Accepts; one of class network leaves open whether the
// statement has run.
func (c *Client) Query(ctx context.Context, key *keyfile.Key, statement string) (*Result, error) {
	return c.run(ctx, key, statement, retryRead)
}

// retryRead is for requests that may be sent any number of times. Snowflake redirects one now and then, and answers it
// when it comes again.
func retryRead(r *reply, err error) bool {
	if err != nil {
		return failure.Class(err) == keyfile.ClassNetwork
	}
	return r.transient() || r.status == http.StatusTemporaryRedirect || r.status == http.StatusPermanentRedirect
}

// Change is like Query for a statement that changes something. It sends the statement once, unless Snowflake answers
// that it is too busy: a second request may be answered before the first takes effect, and no document says that
// Snowflake then still knows the two by their id.
func (c *Client) Change(ctx context.Context, key *keyfile.Key, statement string) error {
	_, err := c.run(ctx, key, statement, func(r *reply, err error) bool {
		return err == nil && r.status == http.StatusTooManyRequests
	})
	return err
}

// run sends a statement, as often as retry allows, and polls it until its end.
func (c *Client) run(ctx context.Context, key *keyfile.Key, statement string, retry func(*reply, error) bool) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*callTimeout)
	defer cancel()
	r, err := c.sendWithRetry(ctx, key, c.submission(statement), retry)
	polled := false
	for err == nil && r.status == http.StatusAccepted {
		r, err = c.poll(ctx, key, r.answer.StatementStatusURL)
		polled = true
	}
	switch {
	case err != nil && polled && failure.Class(err) != keyfile.ClassNetwork:
		return nil, endUnknown(err)
	case err != nil:
		return nil, err
	case r.status == http.StatusUnprocessableEntity && r.answer.Code != "":
		return nil, &StatementError{Code: r.answer.Code, SQLState: r.answer.SQLState, Message: r.answer.Message}
	case r.status == http.StatusOK && r.answer.Code != "":
		return r.result(), nil
	case polled:
		return nil, endUnknown(c.failed(key, r))
	}
	return nil, c.failed(key, r)
}

// endUnknown is the error of a statement that Snowflake took on, and whose end it did not tell.
func endUnknown(err error) error {
	return failure.New(keyfile.ClassNetwork, fmt.Errorf("whether the statement has run is not known: %w", err), "")
}

func (c *Client) sendWithRetry(ctx context.Context, key *keyfile.Key, req request, retry func(*reply, error) bool) (*reply, error) {
	for attempt := 1; ; attempt++ {
		once, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := c.sendSigned(once, key, req)
		cancel()
		if !retry(r, err) || attempt == maxAttempts || wait(ctx, time.Duration(attempt)*c.retryInterval()) != nil {
			return r, err
		}
		if req.query.Has("requestId") {
			req.query.Set("retry", "true")
		}
	}
}

func (c *Client) poll(ctx context.Context, key *keyfile.Key, statusURL string) (*reply, error) {
	at, err := c.status(statusURL)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, c.retryInterval()); err != nil {
		return nil, c.notReached(fmt.Errorf("the statement was still running: %w", err))
	}
	return c.sendWithRetry(ctx, key, at, retryRead)
}

var statusPath = lazyregexp.New(`^` + statementsPath + `/[0-9A-Za-z-]+$`)

// status is the request for the state of a statement, which stays on this host and below its API.
func (c *Client) status(address string) (request, error) {
	at, err := url.Parse(address)
	if err == nil && (at.Host == "" || strings.EqualFold(at.Hostname(), c.host())) && statusPath().MatchString(at.Path) {
		return request{method: http.MethodGet, path: at.Path, query: at.Query()}, nil
	}
	return request{}, failure.New(keyfile.ClassNetwork, fmt.Errorf("%s gave no address of its own for the state of a statement", c.host()),
		c.addressAdvice()+": this is no answer of Snowflake")
}

func (c *Client) retryInterval() time.Duration { return cmp.Or(c.RetryInterval, retryInterval) }

func wait(ctx context.Context, interval time.Duration) error {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (r *reply) result() *Result {
	out := &Result{Date: r.date}
	for _, column := range r.answer.ResultSetMetaData.RowType {
		out.Columns = append(out.Columns, column.Name)
	}
	for _, cells := range r.answer.Data {
		row := make([]string, len(cells))
		for i, cell := range cells {
			if cell != nil {
				row[i] = *cell
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}
