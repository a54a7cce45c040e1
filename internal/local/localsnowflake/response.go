package localsnowflake

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// response is what goes back to the client.
type response struct {
	status int // 200 when it is 0
	body   any
	raw    string // instead of a body
	drop   bool   // close the connection instead

	location string // of a redirect
}

// envelope is around everything that a driver is told.
type envelope struct {
	Data    any  `json:"data"`
	Code    Code `json:"code"`
	Message any  `json:"message"` // a string, null on success
	Success bool `json:"success"`
}

func succeed(data any) response { return response{body: envelope{Data: data, Success: true}} }

// fail answers as the endpoint does: drivers always get 200, the SQL API a status.
func (c *call) fail(f *failure) response { return c.failStatement(f, "") }

// failStatement is fail for a statement that has got as far as having a query id.
func (c *call) failStatement(f *failure, queryID string) response {
	if strings.HasPrefix(c.Endpoint, EndpointStatements) {
		return response{status: f.status(), body: statementFailure{
			Code: f.code, Message: f.message, SQLState: f.sqlState, StatementHandle: queryID,
		}}
	}
	data := failureData{ErrorCode: f.code, SQLState: f.sqlState, QueryID: queryID}
	return response{body: envelope{Data: data, Code: f.code, Message: f.message}}
}

// failureData has no sqlState when a token is refused: drivers would take it for a failed statement.
type failureData struct {
	ErrorCode Code   `json:"errorCode"`
	SQLState  string `json:"sqlState,omitempty"`
	QueryID   string `json:"queryId,omitempty"`
}

type statementFailure struct {
	Code            Code   `json:"code"`
	Message         string `json:"message"`
	SQLState        string `json:"sqlState,omitempty"`
	StatementHandle string `json:"statementHandle,omitempty"`
}

// status is the SQL API's for the failure.
func (f *failure) status() int {
	switch f.code {
	case InvalidPayload, UnsupportedAccept, UserAgentMissing:
		return http.StatusBadRequest
	case NetworkPolicyDenied:
		return http.StatusForbidden
	case RequestRateExceeded:
		return http.StatusTooManyRequests
	case StatementTimedOut:
		return http.StatusRequestTimeout
	}
	if f.sqlState == "" {
		return http.StatusUnauthorized
	}
	return http.StatusUnprocessableEntity
}

func rawType(body string) string {
	if strings.HasPrefix(body, "{") {
		return "application/json"
	}
	return "text/html"
}

func (r response) write(w http.ResponseWriter) {
	if r.drop {
		panic(http.ErrAbortHandler)
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	if r.raw != "" {
		buffer.WriteString(r.raw)
		w.Header().Set("Content-Type", rawType(r.raw))
	} else if r.body != nil {
		// Nothing in an answer can fail to encode.
		_ = json.NewEncoder(buffer).Encode(r.body)
		w.Header().Set("Content-Type", "application/json")
	}
	if r.location != "" {
		w.Header().Set("Location", r.location)
	}
	w.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
	if r.status != 0 {
		w.WriteHeader(r.status)
	}
	_, _ = w.Write(buffer.Bytes()) // an error here means that the client has gone
}
