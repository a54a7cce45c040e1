package localsnowflake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// defaultSchema is the current schema after USE DATABASE.
const defaultSchema = "PUBLIC"

// forwarded is a statement that the SQL engine executes. Its columns and rows are in the engine's answer.
type forwarded struct {
	instant
	parsed  statement // by the account's own parser
	request engineQuery
}

// engineQuery is the part of a client's request that the engine gets. It has no credentials.
type engineQuery struct {
	SQLText      string          `json:"sqlText"`
	DescribeOnly bool            `json:"describeOnly,omitempty"`
	Bindings     json.RawMessage `json:"bindings,omitempty"`
}

func (forwarded) typeID() int64                       { return 0 }
func (forwarded) columns(*scope) []column             { return nil }
func (forwarded) rows(*scope) ([][]*string, *failure) { return nil, nil }

// read is readOne, for a request that may have several statements.
func (s *Server) read(c *call, in queryRequest, sc *scope) statement {
	if all := s.readMultiStatement(c, in, sc); all != nil {
		return all
	}
	return s.readOne(c, in)
}

// readOne decides who executes a statement of a session: the account or, if there is one, the SQL engine.
func (s *Server) readOne(c *call, in queryRequest) statement {
	parsed := parse(in.SQLText)
	if s.engine == nil || isLocal(in.SQLText, parsed) {
		return parsed
	}
	if in.BindStage != "" {
		return rejected{failure: engineFailure("bindings in a stage are not handed to the SQL engine; " +
			"leave CLIENT_STAGE_ARRAY_BINDING_THRESHOLD as the login has it")}
	}
	h := forwarded{parsed: parsed}
	if c.decode(&h.request) != nil {
		return rejected{failure: failed(InvalidPayload)}
	}
	h.request.SQLText = in.SQLText // of several statements, one
	if in.DescribeOnly {
		return h.described()
	}
	return h
}

// localStatements never go to the engine, even if they are malformed: the account alone decides about users and roles.
var localStatements = [][]string{
	{"ALTER", "USER"}, {"CREATE", "USER"}, {"CREATE", "OR", "REPLACE", "USER"}, {"DROP", "USER"},
	{"CREATE", "ROLE"}, {"DROP", "ROLE"}, {"GRANT", "ROLE"}, {"GRANT", "MODIFY"}, {"GRANT", "OWNERSHIP", "ON", "USER"},
	{"DESC", "USER"}, {"DESCRIBE", "USER"}, {"SHOW", "USERS"}, {"SHOW", "USER", "KEY"},
	{"USE", "ROLE"}, {"USE", "SECONDARY"}, {"USE", "WAREHOUSE"},
}

func isLocal(sql string, parsed statement) bool {
	switch st := parsed.(type) {
	case rejected:
		return st.failure.final || slices.ContainsFunc(strings.Split(sql, ";"), isOfTheAccount)
	case selection:
		return slices.ContainsFunc(st.items, item.isOfSession)
	case use:
		return st.kind == useNothing || st.kind == useRole || st.kind == useWarehouse
	case alterSession:
		return !st.autocommit
	case transaction, table, insert, createStage, transfer:
		return false
	}
	return true
}

// isOfTheAccount tells whether the SQL begins as one of localStatements.
func isOfTheAccount(sql string) bool { return beginsAny(sql, localStatements) }

// beginsAny tells whether the SQL begins with one of the lists of keywords.
func beginsAny(sql string, lists [][]string) bool { return slices.ContainsFunc(lists, begins(sql)) }

// begins tells whether the SQL begins with keywords. It does not have to be well-formed behind them.
func begins(sql string) func(keywords []string) bool {
	return func(keywords []string) bool {
		at := 0
		for _, keyword := range keywords {
			at = skipBlanks(sql, at)
			if at == len(sql) {
				return false
			}
			next, end := nextLexeme(sql, at)
			if next.kind != word || !strings.EqualFold(next.text, keyword) {
				return false
			}
			at = end
		}
		return true
	}
}

// requests are sent to the engine for the statement. USE DATABASE takes two: fakesnow's databases have no PUBLIC schema.
func (h forwarded) requests(sc *scope) []engineQuery {
	u, ok := h.parsed.(use)
	switch {
	case ok && u.kind == useDatabase:
		schema := quote(u.name) + "." + defaultSchema
		return []engineQuery{{SQLText: "CREATE SCHEMA IF NOT EXISTS " + schema}, {SQLText: "USE SCHEMA " + schema}}
	case ok && u.database != "":
		return []engineQuery{{SQLText: "USE SCHEMA " + quote(u.database) + "." + quote(u.name)}}
	}
	request := h.request
	lexemes, broken := lex(request.SQLText)
	switch {
	case broken != nil:
	case beginsAny(request.SQLText, [][]string{{"PUT"}, {"COPY"}}):
		request = engineQuery{SQLText: sc.translateTransfer(request.SQLText, lexemes)}
	default:
		request.SQLText = sc.translate(request.SQLText, lexemes)
	}
	return []engineQuery{request}
}

// startInEngine runs the execution for as long as its timeout and the engine's, or until somebody cancels it.
func (s *Server) startInEngine(e *execution, run func(context.Context) result) {
	timeout := s.engine.timeout
	if e.timeout > 0 {
		timeout = min(timeout, e.timeout)
	}
	ctx, stop := context.WithTimeoutCause(s.engine.ctx, timeout, tookTooLong(timeout))
	started := s.engine.start(func() {
		defer stop()
		r := run(ctx)
		if s.history.claim(e) {
			s.counters.statements.Add(1)
			s.history.settle(e, r, true)
		}
	})
	// Canceling the execution cancels the request to the engine.
	if !started || !s.engine.start(func() {
		defer stop()
		select {
		case <-e.done:
		case <-ctx.Done():
		}
	}) {
		stop()
		s.history.cancel(e, canceled())
	}
}

func (s *Server) askEngine(ctx context.Context, e *execution, h forwarded) result {
	if !pause(ctx, s.queryLatency.get()) {
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	opened := e.scope.session
	if opened.id == 0 {
		defer opened.closeEngineSession() // in the SQL API each statement has its own
	}
	return s.withEngineSession(ctx, opened, func(token string) (result, error) {
		var last engineAnswer
		for _, request := range h.requests(e.scope) {
			answer, err := s.engine.post(ctx, EndpointQuery, nil, token, request)
			if err != nil {
				return result{failure: s.engine.unreachable(ctx, err)}, err
			}
			if answer.sessionLost() {
				return result{failure: engineFailure("the SQL engine has lost the session, and may have been restarted: " +
					"log in again; what it had in memory is gone")}, errSessionLost
			}
			if failure := answer.failure(); failure != nil {
				return result{failure: failure}, nil
			}
			last = answer
		}
		return h.result(e, last), nil
	})
}

var errSessionLost = errors.New("the engine has lost the session")

// engineOutcome is the part of the engine's answer that the account reads: the context of the engine's session, and
// which statement it was.
type engineOutcome struct {
	Database *string `json:"finalDatabaseName"`
	Schema   *string `json:"finalSchemaName"`
	QueryID  string  `json:"queryId"`
	TypeID   int64   `json:"statementTypeId"`
}

// result updates the session from the engine's answer, and puts the account's query id, role and warehouse into it.
func (h forwarded) result(e *execution, answer engineAnswer) result {
	var data map[string]json.RawMessage
	var after engineOutcome
	if json.Unmarshal(answer.Data, &data) != nil || data == nil || json.Unmarshal(answer.Data, &after) != nil {
		return result{failure: engineFailure("the SQL engine's answer has no result")}
	}
	opened := e.scope.session
	opened.update(func(s *session) {
		if t, ok := h.parsed.(transaction); ok {
			s.inTransaction = t.open
		}
		if _, said := data["finalDatabaseName"]; said {
			s.context.Database, s.context.Schema = orEmpty(after.Database), orEmpty(after.Schema)
		}
	})
	context := opened.currentContext()
	switch {
	case h.request.DescribeOnly: // fakesnow executes SHOW for it
		setRows(data, [][]*string{})
	case opened.noArrow:
		if err := withoutArrow(data); err != nil {
			return result{failure: engineFailure("the SQL engine's result cannot be read: %v", err)}
		}
	}
	data["queryId"] = encoded(e.record.QueryID)
	data["finalRoleName"] = encoded(orNull(context.Role))
	data["finalWarehouseName"] = encoded(orNull(context.Warehouse))
	return result{engine: data, engineID: after.QueryID, typeID: after.TypeID, size: max(len(answer.Data), len(data["rowset"]))}
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// encoded is JSON of a value that cannot fail to encode.
func encoded(value any) json.RawMessage {
	var text bytes.Buffer
	_ = json.NewEncoder(&text).Encode(value)
	return bytes.TrimSpace(text.Bytes())
}
