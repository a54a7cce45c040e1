package localsnowflake

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

type statementRequest struct {
	Statement string             `json:"statement"`
	Timeout   int                `json:"timeout"` // seconds
	Role      string             `json:"role"`
	Warehouse string             `json:"warehouse"`
	Database  string             `json:"database"`
	Schema    string             `json:"schema"`
	Bindings  map[string]binding `json:"bindings"`
}

type resultSet struct {
	MetaData           resultSetMetaData `json:"resultSetMetaData"`
	Data               [][]*string       `json:"data"`
	Code               Code              `json:"code"`
	StatementStatusURL string            `json:"statementStatusUrl"`
	RequestID          string            `json:"requestId,omitempty"`
	SQLState           string            `json:"sqlState"`
	StatementHandle    string            `json:"statementHandle"`
	Message            string            `json:"message"`
	CreatedOn          int64             `json:"createdOn"` // milliseconds
}

type resultSetMetaData struct {
	NumRows       int         `json:"numRows"`
	Format        string      `json:"format"`
	PartitionInfo []partition `json:"partitionInfo"`
	RowType       []column    `json:"rowType"`
}

type partition struct {
	RowCount         int `json:"rowCount"`
	UncompressedSize int `json:"uncompressedSize"`
}

type queryStatus struct {
	Code               Code   `json:"code"`
	SQLState           string `json:"sqlState,omitempty"`
	Message            string `json:"message"`
	StatementHandle    string `json:"statementHandle"`
	StatementStatusURL string `json:"statementStatusUrl"`
}

func (s *Server) submitStatement(c *call) response {
	var in statementRequest
	malformed := c.decode(&in) != nil
	c.Statement = in.Statement
	if out := s.admitJWT(c); out != nil {
		return *out
	}
	if malformed {
		return c.fail(failed(InvalidPayload))
	}
	role, refused := s.assume(c, in.Role)
	if refused != nil {
		return c.fail(refused)
	}
	e := newExecution(c, s.readOne(c, queryRequest{SQLText: in.Statement}), s.clock())
	if needsSession(e.statement) {
		e.statement = rejected{failure: &failure{code: StatementUnsupported, sqlState: "0A000", message: messages[StatementUnsupported]}}
	}
	e.scope = &scope{server: s, user: c.User, role: role, bindings: in.Bindings}
	if _, ok := e.statement.(forwarded); ok {
		e.scope.session = &session{user: c.User, autocommit: true, noArrow: true, context: sessionContext{
			Database: in.Database, Schema: in.Schema, Warehouse: in.Warehouse, Role: role,
		}}
	}
	e.timeout = time.Duration(in.Timeout) * time.Second
	e.async = c.poll || c.query.Get("async") == "true"
	e = s.submit(e, c.Retry > 0)
	return s.answerStatement(c, e, s.await(c, e))
}

func (s *Server) statementStatus(c *call) response {
	e, out := s.ownStatement(c)
	if out != nil {
		return *out
	}
	progress := finished
	if !e.isDone() {
		progress = stillRunning
	}
	return s.answerStatement(c, e, progress)
}

func (s *Server) cancelStatement(c *call) response {
	e, out := s.ownStatement(c)
	if out != nil {
		return *out
	}
	if !s.history.abort(e) {
		return c.failStatement(&failure{
			code: StatementNotExecuting, sqlState: "02000", message: messages[StatementNotExecuting],
		}, e.record.QueryID)
	}
	return response{body: e.status(canceled())}
}

func (s *Server) answerStatement(c *call, e *execution, progress progress) response {
	switch progress {
	case clientGone:
		return response{drop: true}
	case stillRunning:
		return response{status: http.StatusAccepted, body: e.status(failed(StatementInProgressAsync))}
	}
	r := s.history.resultOf(e)
	switch {
	case r.failure != nil:
		return c.failStatement(r.failure, e.record.QueryID)
	case r.engine != nil:
		return c.answerOfEngine(e, r)
	}
	return response{body: e.resultSet(r)}
}

// answerOfEngine is not for results that a driver asked for in Arrow.
func (c *call) answerOfEngine(e *execution, r result) response {
	var data struct {
		Columns []column    `json:"rowtype"`
		Rows    [][]*string `json:"rowset"`
	}
	if json.Unmarshal(encoded(r.engine), &data) != nil || data.Rows == nil {
		return c.failStatement(notFound(e.record.QueryID), e.record.QueryID)
	}
	return response{body: e.resultSet(result{columns: data.Columns, rows: data.Rows})}
}

func (e *execution) resultSet(r result) resultSet {
	rows := len(r.rows)
	return resultSet{
		MetaData: resultSetMetaData{
			NumRows:       rows,
			Format:        "jsonv2",
			PartitionInfo: []partition{{RowCount: rows}},
			RowType:       r.columns,
		},
		Data:               r.rows,
		Code:               StatementSucceeded,
		StatementStatusURL: e.statusURL(),
		RequestID:          e.record.RequestID,
		SQLState:           "00000",
		StatementHandle:    e.record.QueryID,
		Message:            executed,
		CreatedOn:          e.record.Received.UnixMilli(),
	}
}

func (e *execution) status(f *failure) queryStatus {
	return queryStatus{
		Code:               f.code,
		SQLState:           f.sqlState,
		Message:            f.message,
		StatementHandle:    e.record.QueryID,
		StatementStatusURL: e.statusURL(),
	}
}

func (e *execution) statusURL() string { return EndpointStatements + "/" + e.record.QueryID }

// ownStatement returns the statement whose handle is in the path.
func (s *Server) ownStatement(c *call) (*execution, *response) {
	if out := s.admitJWT(c); out != nil {
		return nil, out
	}
	handle := c.http.PathValue("queryID")
	e := s.history.ofQuery(c.User, handle)
	if e == nil {
		out := c.failStatement(notFound(handle), handle)
		return nil, &out
	}
	return e, nil
}

// admitJWT checks the headers of a request and the JWT in them, and asks the hook. It returns the answer if
// that is all.
func (s *Server) admitJWT(c *call) *response {
	bearer, _ := strings.CutPrefix(c.http.Header.Get("Authorization"), "Bearer ")
	token := parseJWT(bearer)
	c.User, c.Fingerprint = s.users.nameOf(token.user), token.fingerprint
	if out := s.interrupt(c); out != nil {
		return out
	}
	if out := c.checkHeaders(); out != nil {
		return out
	}
	if code := s.verify(token, maxStatementAge); code != 0 {
		out := c.fail(s.refuse(c, code))
		return &out
	}
	s.record(c, 0)
	s.used(c.User, c.Fingerprint)
	return nil
}

// checkHeaders returns the answer to a request without the headers that the SQL API insists on.
func (c *call) checkHeaders() *response {
	header := c.http.Header
	var out response
	switch {
	case header.Get("User-Agent") == "":
		out = c.fail(failed(UserAgentMissing))
	case !acceptsJSON(header.Get("Accept")):
		accept := cmp.Or(header.Get("Accept"), null)
		out = c.fail(&failure{code: UnsupportedAccept, message: fmt.Sprintf("Unsupported Accept header %s is specified.", accept)})
	case !isJSON(header.Get("Content-Type")):
		out = response{status: http.StatusUnsupportedMediaType}
	case header.Get("Authorization") == "":
		out = c.fail(failed(AuthorizationMissing))
	case cmp.Or(header.Get("X-Snowflake-Authorization-Token-Type"), "KEYPAIR_JWT") != "KEYPAIR_JWT":
		out = c.fail(failed(OAuthAccessTokenInvalid))
	default:
		return nil
	}
	return &out
}

func acceptsJSON(accept string) bool {
	return strings.Contains(accept, "application/json") || strings.Contains(accept, "*/*")
}

// isJSON takes no content type at all for JSON.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return contentType == "" || (err == nil && media == "application/json")
}
