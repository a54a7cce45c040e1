package sqlapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

const tries = 3 // of one request that gets no answer, or one that may pass

// Pause is the time between looks at a statement that runs, and between tries. It is a variable
// for tests only.
var Pause = time.Second / 2

// A Result is what a statement gave.
type Result struct {
	Columns []string
	Rows    [][]string // "" for NULL
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
// Errors are *StatementError, or *failure.Error as from Accepts; after one of class network nobody knows
// whether the statement has run.
func (c *Client) Query(ctx context.Context, key *keyfile.Key, statement string) (*Result, error) {
	return c.run(ctx, key, statement, mayPass)
}

// mayPass is for what may be sent any number of times.
func mayPass(r *reply, err error) bool {
	return failure.Class(err) == keyfile.ClassNetwork || err == nil && r.mayPass()
}

// Change is Query for a statement that changes something, which it sends once, unless Snowflake has answered
// that it is too busy: an answer to the second request says nothing about the first, which may take effect after
// all that follows. That Snowflake knows a request by its id in that order, too, is nowhere said.
func (c *Client) Change(ctx context.Context, key *keyfile.Key, statement string) error {
	_, err := c.run(ctx, key, statement, func(r *reply, err error) bool {
		return err == nil && r.status == http.StatusTooManyRequests
	})
	return err
}

// run sends a statement again as long as its outcome is one after which it may be.
func (c *Client) run(ctx context.Context, key *keyfile.Key, statement string, again func(*reply, error) bool) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*callTimeout)
	defer cancel()
	r, err := c.insist(ctx, key, c.submission(statement), again)
	for err == nil && r.status == http.StatusAccepted {
		r, err = c.poll(ctx, key, r.answer.StatementStatusURL)
	}
	switch {
	case err != nil:
		return nil, err
	case r.status == http.StatusUnprocessableEntity:
		return nil, &StatementError{Code: r.answer.Code, SQLState: r.answer.SQLState, Message: r.answer.Message}
	case r.status != http.StatusOK || r.answer.Code == "":
		return nil, c.failed(key, r)
	}
	return r.result(), nil
}

func (c *Client) insist(ctx context.Context, key *keyfile.Key, req request, again func(*reply, error) bool) (*reply, error) {
	for try := 1; ; try++ {
		once, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := c.ask(once, key, req)
		cancel()
		if !again(r, err) || try == tries || wait(ctx, time.Duration(try)*Pause) != nil {
			return r, err
		}
		if req.query.Has("requestId") {
			req.query.Set("retry", "true")
		}
	}
}

func (c *Client) poll(ctx context.Context, key *keyfile.Key, statusURL string) (*reply, error) {
	at, err := url.Parse(statusURL)
	if err != nil || at.Path == "" {
		return nil, failure.New(keyfile.ClassOther, errors.New("Snowflake gave no address for the state of a statement"), "")
	}
	if err := wait(ctx, Pause); err != nil {
		return nil, c.notReached(fmt.Errorf("the statement was still running: %w", err))
	}
	return c.insist(ctx, key, request{method: http.MethodGet, path: at.Path, query: at.Query()}, mayPass)
}

func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
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
