package localsnowflake

import "encoding/json"

type queryRequest struct {
	SQLText      string             `json:"sqlText"`
	AsyncExec    bool               `json:"asyncExec"`
	DescribeOnly bool               `json:"describeOnly"`
	Bindings     map[string]binding `json:"bindings"`
	BindStage    string             `json:"bindStage"`
	Parameters   json.RawMessage    `json:"parameters"`
}

type queryData struct {
	Parameters         []parameter `json:"parameters"`
	RowType            []column    `json:"rowtype"`
	RowSet             [][]*string `json:"rowset"`
	Total              int         `json:"total"`
	Returned           int         `json:"returned"`
	QueryID            string      `json:"queryId"`
	SQLState           string      `json:"sqlState"`
	FinalDatabaseName  *string     `json:"finalDatabaseName"`
	FinalSchemaName    *string     `json:"finalSchemaName"`
	FinalWarehouseName *string     `json:"finalWarehouseName"`
	FinalRoleName      *string     `json:"finalRoleName"`
	NumberOfBinds      int         `json:"numberOfBinds"`
	StatementTypeID    int64       `json:"statementTypeId"`
	Version            int         `json:"version"`
	QueryResultFormat  string      `json:"queryResultFormat"`
	ResultIDs          string      `json:"resultIds,omitempty"` // of several statements
	ResultTypes        string      `json:"resultTypes,omitempty"`
}

func (s *Server) query(c *call) response {
	var in queryRequest
	malformed := c.decode(&in) != nil
	c.Statement = in.SQLText
	opened, out := s.admit(c)
	if out != nil {
		return *out
	}
	if malformed {
		return c.fail(failed(InvalidPayload))
	}
	sc := &scope{server: s, user: c.User, session: opened, bindings: in.Bindings, bindStage: in.BindStage}
	e := newExecution(c, s.read(c, in, sc), s.clock())
	e.scope = sc
	e.async = c.poll || in.AsyncExec
	if _, isForwarded := e.statement.(forwarded); in.DescribeOnly && !isForwarded {
		return describe(c, e)
	}
	e = s.submit(e, c.Retry > 0)
	return s.answerQuery(c, e, s.await(c, e))
}

// describe answers what the columns would be.
func describe(c *call, e *execution) response {
	if bad, ok := e.statement.(rejected); ok {
		return c.failStatement(bad.failure, e.record.QueryID)
	}
	return succeed(queryResult(e, result{columns: e.columns(e.scope)}))
}

// result is the endpoint that clients poll for the result of a statement.
func (s *Server) result(c *call) response {
	e, out := s.polled(c)
	if out != nil {
		return *out
	}
	return s.answerQuery(c, e, s.awaitDetached(c, e))
}

func (s *Server) polled(c *call) (*execution, *response) {
	if _, out := s.admit(c); out != nil {
		return nil, out
	}
	queryID := c.http.PathValue("queryID")
	e := s.history.ofQuery(c.User, queryID)
	if e == nil {
		out := c.failStatement(notFound(queryID), queryID)
		return nil, &out
	}
	return e, nil
}

func notFound(queryID string) *failure {
	return &failure{code: StatementNotFound, sqlState: "02000", message: "Statement " + queryID + " not found"}
}

func (s *Server) answerQuery(c *call, e *execution, progress progress) response {
	switch progress {
	case clientGone:
		return response{drop: true}
	case stillRunning:
		return inProgress(e)
	}
	r := s.history.resultOf(e)
	switch t, isTransfer := e.statement.(transfer); {
	case r.failure != nil:
		return c.failStatement(r.failure, e.record.QueryID)
	case r.engine != nil:
		return succeed(s.withUploads(c, r.engine))
	case isTransfer:
		return succeed(t.data(e.scope, queryResult(e, r)))
	}
	return succeed(queryResult(e, r))
}

func queryResult(e *execution, r result) queryData {
	context := e.scope.context()
	var ids, types string
	if all, ok := e.statement.(multiStatement); ok {
		ids, types = all.resultIDs(e.scope.server.history)
	}
	return queryData{
		ResultIDs:          ids,
		ResultTypes:        types,
		Parameters:         []parameter{},
		RowType:            r.columns,
		RowSet:             r.rows,
		Total:              len(r.rows),
		Returned:           len(r.rows),
		QueryID:            e.record.QueryID,
		SQLState:           "00000",
		FinalDatabaseName:  orNull(context.Database),
		FinalSchemaName:    orNull(context.Schema),
		FinalWarehouseName: orNull(context.Warehouse),
		FinalRoleName:      orNull(context.Role),
		NumberOfBinds:      len(e.scope.bindings),
		StatementTypeID:    e.typeID(),
		Version:            1,
		QueryResultFormat:  "json",
	}
}

type inProgressData struct {
	QueryID      string `json:"queryId"`
	GetResultURL string `json:"getResultUrl"`
}

func inProgress(e *execution) response {
	code := StatementInProgress
	if e.async {
		code = StatementInProgressAsync
	}
	id := e.record.QueryID
	return response{body: envelope{
		Data: inProgressData{id, "/queries/" + id + "/result"}, Code: code, Message: messages[code], Success: true,
	}}
}

type abortRequest struct {
	RequestID string `json:"requestId"`
}

// abort cancels what another request has submitted.
func (s *Server) abort(c *call) response {
	var in abortRequest
	malformed := c.decode(&in) != nil
	if _, out := s.admit(c); out != nil {
		return *out
	}
	if malformed {
		return c.fail(failed(InvalidPayload))
	}
	e := s.history.ofRequest(c.User, in.RequestID)
	if e == nil || !s.history.abort(e) {
		return c.fail(failed(StatementNotExecuting))
	}
	return succeed(nil)
}

type monitoringData struct {
	Queries []monitoredQuery `json:"queries"`
}

type monitoredQuery struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	SQLText      string `json:"sqlText"`
	StartTime    int64  `json:"startTime"`
	ErrorCode    string `json:"errorCode"`
	ErrorMessage string `json:"errorMessage"`
}

func (s *Server) monitoring(c *call) response {
	e, out := s.polled(c)
	if out != nil {
		return *out
	}
	status := monitoredQuery{
		ID: e.record.QueryID, Status: "RUNNING", SQLText: e.record.Text, StartTime: e.record.Received.UnixMilli(),
	}
	if e.isDone() {
		status.Status = "SUCCESS"
		if failure := s.history.resultOf(e).failure; failure != nil {
			status.Status, status.ErrorCode, status.ErrorMessage = "FAILED_WITH_ERROR", failure.code.String(), failure.message
		}
	}
	return succeed(monitoringData{[]monitoredQuery{status}})
}
