package localsnowflake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What drivers and the SQL API ask for, as Request.Endpoint names it.
const (
	EndpointLogin           = "/session/v1/login-request"
	EndpointRenew           = "/session/token-request"
	EndpointHeartbeat       = "/session/heartbeat"
	EndpointClose           = "/session"
	EndpointQuery           = "/queries/v1/query-request"
	EndpointAbort           = "/queries/v1/abort-request"
	EndpointResult          = "/queries/{queryID}/result"
	EndpointMonitoring      = "/monitoring/queries/{queryID}"
	EndpointStatements      = "/api/v2/statements"
	EndpointStatement       = "/api/v2/statements/{queryID}"
	EndpointCancelStatement = "/api/v2/statements/{queryID}/cancel"

	endpointUpload               = "/engine/upload" // of a file for the SQL engine
	endpointTelemetry            = "/telemetry/send"
	endpointSessionlessTelemetry = "/telemetry/send/sessionless"
)

const (
	// maxBody is how large a request may be, compressed or not. Bindings come with their statement.
	maxBody = 16 << 20

	// maxIgnored is how much of a larger one is read, so that its client sees the answer.
	maxIgnored = 16 * maxBody
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*Server, *call) response{
		"POST " + EndpointLogin:                (*Server).login,
		"POST " + EndpointRenew:                (*Server).renew,
		"POST " + EndpointHeartbeat:            (*Server).heartbeat,
		"POST " + EndpointClose:                (*Server).closeSession,
		"POST " + EndpointQuery:                (*Server).query,
		"POST " + EndpointAbort:                (*Server).abort,
		"GET " + EndpointResult:                (*Server).result,
		"GET " + EndpointMonitoring:            (*Server).monitoring,
		"POST " + endpointTelemetry:            (*Server).telemetry,
		"POST " + endpointSessionlessTelemetry: (*Server).telemetry,
		"POST " + EndpointStatements:           (*Server).submitStatement,
		"GET " + EndpointStatement:             (*Server).statementStatus,
		"POST " + EndpointCancelStatement:      (*Server).cancelStatement,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.handle(w, r, answer) })
	}
	mux.HandleFunc("PUT "+endpointUpload, s.upload)
	return mux
}

// call is one request on its way to its answer.
type call struct {
	Request
	ctx   context.Context
	http  *http.Request
	query url.Values
	body  []byte
	after *Fault // replaces the answer
	poll  bool   // whatever comes, the client is told to poll for it
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (s *Server) handle(w http.ResponseWriter, r *http.Request, answer func(*Server, *call) response) {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	c, err := newCall(r, buffer)
	if errors.Is(err, errTooLarge) {
		c.fail(tooLarge()).write(w)
		return
	}
	if err != nil {
		c.fail(failed(InvalidPayload)).write(w)
		return
	}
	out := answer(s, c)
	if c.after != nil {
		out = c.after.response(c)
	}
	out.write(w)
}

func newCall(r *http.Request, buffer *bytes.Buffer) (*call, error) {
	_, endpoint, _ := strings.Cut(r.Pattern, " ")
	query := r.URL.Query()
	c := &call{
		Request: Request{Endpoint: endpoint, RequestID: query.Get("requestId"), Retry: retries(query)},
		ctx:     r.Context(),
		http:    r,
		query:   query,
	}
	err := readBody(buffer, r.Body, r.Header.Get("Content-Encoding"))
	c.body = buffer.Bytes()
	return c, err
}

// retries is how often the client says it has sent the request before. Drivers count, the SQL API has a
// flag.
func retries(query url.Values) int {
	if query.Get("retry") == "true" {
		return 1
	}
	n, _ := strconv.Atoi(query.Get("retryCount"))
	return n
}

var errTooLarge = errors.New("the request is too large")

func tooLarge() *failure {
	return &failure{code: InvalidPayload, sqlState: "54000", message: fmt.Sprintf("The request is larger than %d MiB, which is the limit here. "+
		"Send fewer rows at a time, or PUT a file with them and COPY it.", maxBody>>20)}
}

// readBody reads a whole body, or fails.
func readBody(into *bytes.Buffer, body io.Reader, encoding string) error {
	into.Reset()
	plain := body
	if encoding == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		plain = unzipped
	}
	n, err := into.ReadFrom(io.LimitReader(plain, maxBody+1))
	if err != nil || n <= maxBody {
		return err
	}
	_, err = io.CopyN(io.Discard, body, maxIgnored)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return errTooLarge
}

func (c *call) decode(into any) error { return json.Unmarshal(c.body, into) }

// token is the session or master token of a driver's request.
func (c *call) token() string {
	token, _ := strings.CutPrefix(c.http.Header.Get("Authorization"), `Snowflake Token="`)
	return strings.TrimSuffix(token, `"`)
}

// identify fills in what a token says about its bearer.
func (c *call) identify(opened *session) {
	if opened == nil {
		return
	}
	c.User, c.Fingerprint, c.SessionID = opened.user, opened.fingerprint, opened.id
}

// pause returns false if nobody is left to wait for.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
