package sqlapi

import (
	"context"
	"net/http"
	"time"
)

// Reach waits for an answer of any kind, without a login, and returns its time by Snowflake's clock, zero if it has
// none.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(request{path: "/"}), nil)
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
func (c *Client) Address() string { return c.url(request{}) }
