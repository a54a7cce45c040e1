package localsnowflake

import (
	"cmp"
	"net/http"
	"time"
)

// A Request is what a hook learns of a request: the client's claims, whether or not they are true.
type Request struct {
	Endpoint    string // one of the Endpoint constants
	RequestID   string
	Retry       int // how often the client says it has sent this request before
	User        string
	Fingerprint string // of the key that signed the JWT, or that opened the session
	SessionID   int64  // 0 at a login and in the SQL API
	Statement   string // the SQL text, if there is one
}

// A Fault takes the place of a request's answer. With a Delay alone the answer is only late.
type Fault struct {
	Delay    time.Duration
	Code     Code
	Message  string // Snowflake's own for the Code when empty
	SQLState string
	Status   int    // an HTTP status; without a Code there is no error in the body
	Body     string // with a Status and no Code: JSON if it begins with a brace, otherwise HTML
	Location string // with a Status and no Code: the scheme and host of a redirect, to the same path
	Drop     bool   // close the connection without an answer
	After    bool   // do what was asked, then lose the answer
	Poll     bool   // do what was asked, and let the client poll for its result, however soon that is there
}

// AnswerLost is a connection that breaks once the statement has taken effect.
func AnswerLost() *Fault { return &Fault{Drop: true, After: true} }

// BlockedByNetworkPolicy is how Snowflake answers, with any key, where a network policy lets nobody in. Code
// and text are Snowflake's. That the SQL API answers with 403 is inferred.
func BlockedByNetworkPolicy() *Fault { return &Fault{Code: NetworkPolicyDenied} }

// SQLAPIDisabled is for the SQL API's endpoints only. The text is what Snowflake was seen to say at another
// endpoint that an account was not allowed to use; that the SQL API says the same is inferred.
func SQLAPIDisabled() *Fault {
	return &Fault{Status: http.StatusForbidden, Body: `{"message":"This account is not allowed to access this endpoint. Please contact Snowflake support."}`}
}

// UnknownAccount is the answer of a host that no account has: a page, with 403, 404 or 513. Snowflake documents
// the three (behaviour change 1669), and clients meet any of them.
func UnknownAccount(status int) *Fault {
	return &Fault{Status: status, Body: "<!DOCTYPE html><html><head><title>Snowflake</title></head><body><h1>Oops! Page not found</h1></body></html>"}
}

// TooManyRequests is how Snowflake slows its clients down.
func TooManyRequests() *Fault {
	return &Fault{Code: RequestRateExceeded, Status: http.StatusTooManyRequests}
}

// RedirectTo is the answer 307, or 308, that points to the same path at another address, a scheme and a host. Snowflake
// gives it now and then: its drivers for Java and Python got code for that.
func RedirectTo(address string, status int) *Fault { return &Fault{Status: status, Location: address} }

// Intercept lets h see every request before it is judged, except telemetry. nil lets the request through.
// A nil h removes the hook.
func (s *Server) Intercept(h func(Request) *Fault) {
	if h == nil {
		s.hook.Store(nil)
		return
	}
	s.hook.Store(&h)
}

// interrupt calls the hook. Its result, if any, is the answer.
func (s *Server) interrupt(c *call) *response {
	hook := s.hook.Load()
	if hook == nil {
		return nil
	}
	fault := (*hook)(c.Request)
	if fault == nil {
		return nil
	}
	if !pause(c.ctx, fault.Delay) {
		return &response{drop: true}
	}
	c.poll = fault.Poll
	if fault.onlyDelays() {
		return nil
	}
	if fault.After {
		c.after = fault
		return nil
	}
	out := fault.response(c)
	return &out
}

func (f *Fault) onlyDelays() bool { return f.Code == 0 && f.Status == 0 && !f.Drop }

func (f *Fault) location(c *call) string {
	if f.Location == "" {
		return ""
	}
	return f.Location + c.http.URL.RequestURI()
}

func (f *Fault) response(c *call) response {
	if f.Drop {
		return response{drop: true}
	}
	if f.Code == 0 {
		return response{status: f.Status, raw: f.Body, location: f.location(c)}
	}
	out := c.fail(&failure{code: f.Code, sqlState: f.SQLState, message: cmp.Or(f.Message, messages[f.Code], "injected fault")})
	out.status = cmp.Or(f.Status, out.status)
	return out
}
