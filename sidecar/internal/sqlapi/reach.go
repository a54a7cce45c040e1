package sqlapi

import (
	"context"
	"net/http"
	"time"
)

// Reach waits for an answer of any kind, without a login, and gives the time of it by Snowflake's clock, zero
// if it says none. Its error is a *failure.Error of class network.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(request{path: "/"}), nil)
	if err != nil {
		return time.Time{}, c.notReached(err)
	}
	req.Header.Set("User-Agent", c.UserAgent)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.HTTP != nil {
		client.Transport = c.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, c.notReached(err)
	}
	resp.Body.Close()
	date, _ := http.ParseTime(resp.Header.Get("Date"))
	return date, nil
}

// Address is where the client asks, such as https://ACCOUNT.snowflakecomputing.com.
func (c *Client) Address() string { return c.url(request{}) }
