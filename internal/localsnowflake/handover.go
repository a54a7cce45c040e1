package localsnowflake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// defaultSchema is current in a database as long as no other is.
const defaultSchema = "PUBLIC"

// handedOver is a statement that the SQL engine executes. It has no columns and rows of its own: the engine's answer
// is the client's.
type handedOver struct {
	instant
	parsed  statement // as the account itself would understand it
	request engineQuery
}

// engineQuery is what the engine gets of a request: nothing that the client authenticates with.
type engineQuery struct {
	SQLText      string          `json:"sqlText"`
	DescribeOnly bool            `json:"describeOnly,omitempty"`
	Bindings     json.RawMessage `json:"bindings,omitempty"`
}

func (handedOver) typeID() int64                       { return 0 }
func (handedOver) columns(*scope) []column             { return nil }
func (handedOver) rows(*scope) ([][]*string, *failure) { return nil, nil }

// read decides who executes a statement of a session: the account or, if there is one, the SQL engine.
func (s *Server) read(c *call, in queryRequest) statement {
	parsed := parse(in.SQLText)
	if s.engine == nil || isOurs(in.SQLText, parsed) {
		return parsed
	}
	if in.BindStage != "" {
		return rejected{failure: engineFailure("bindings in a stage are not handed to the SQL engine; " +
			"leave CLIENT_STAGE_ARRAY_BINDING_THRESHOLD at 0")}
	}
	h := handedOver{parsed: parsed}
	if c.decode(&h.request) != nil {
		return rejected{failure: failed(InvalidPayload)}
	}
	return h
}

// ours are statements that are the account's even if they are malformed: nobody else may decide about users.
var ours = [][]string{
	{"ALTER", "USER"}, {"CREATE", "USER"}, {"CREATE", "OR", "REPLACE", "USER"}, {"DROP", "USER"},
	{"DESC", "USER"}, {"DESCRIBE", "USER"}, {"SHOW", "USERS"}, {"SHOW", "USER"},
	{"USE", "ROLE"}, {"USE", "SECONDARY"}, {"USE", "WAREHOUSE"},
}

func isOurs(sql string, parsed statement) bool {
	switch st := parsed.(type) {
	case rejected:
		return st.failure.code == StatementEmpty || st.failure.code == StatementCountMismatch || slices.ContainsFunc(ours, begins(sql))
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

// requests are what the engine gets for the statement. USE is made of more than one, as the engine's databases have no
// schema that is current unasked.
func (h handedOver) requests(sc *scope) []engineQuery {
	u, ok := h.parsed.(use)
	switch {
	case ok && u.kind == useDatabase:
		schema := quote(u.name) + "." + defaultSchema
		return []engineQuery{{SQLText: "CREATE SCHEMA IF NOT EXISTS " + schema}, {SQLText: "USE SCHEMA " + schema}}
	case ok && u.database != "":
		return []engineQuery{{SQLText: "USE SCHEMA " + quote(u.database) + "." + quote(u.name)}}
	}
	request := h.request
	if request.SQLText, ok = sc.writeBindings(request.SQLText); ok {
		request.Bindings = nil
	}
	request.SQLText = sc.translate(request.SQLText)
	return []engineQuery{request}
}

// writeBindings writes bindings into PUT and COPY, where the engine does not look for them, and stages without quotes, which
// it does not expect. It returns false if the statement is another.
func (sc *scope) writeBindings(sql string) (string, bool) {
	put := begins(sql)([]string{"PUT"})
	lexemes, broken := lex(sql)
	if broken != nil || !put && !begins(sql)([]string{"COPY"}) {
		return sql, false
	}
	count := 0
	return replaceLexemes(sql, lexemes, func(n int) (string, int) {
		switch l := lexemes[n]; {
		case l.kind == text && strings.HasPrefix(l.text, "@") && !strings.ContainsAny(l.text, " '"):
			return l.text, l.at + len(l.text) + 2
		case l.kind != symbol || l.text != "?":
			return "", 0
		}
		count++
		var value *string
		if bound, ok := sc.bindings[strconv.Itoa(count)]; ok {
			value = bound.text()
		}
		if put {
			value = sc.session.boundStage(value)
		}
		switch {
		case value == nil:
			return "", 0
		case strings.HasPrefix(*value, "@"):
			return *value, lexemes[n].at + 1
		}
		return literal(*value), lexemes[n].at + 1
	}), true
}

// boundStage returns the stage that a PUT is bound to. Drivers repeat a PUT without its bindings.
func (s *session) boundStage(bound *string) *string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bound != nil {
		s.putStage = bound
	}
	return s.putStage
}

func literal(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(value) + "'"
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// translate writes into a statement what the engine cannot know: who the client is, and its own ids for queries.
func (sc *scope) translate(sql string) string {
	lexemes, broken := lex(sql)
	if broken != nil {
		return sql
	}
	return replaceLexemes(sql, lexemes, func(n int) (string, int) {
		switch l := lexemes[n]; {
		case l.kind == word && isCall(lexemes, n):
			return sc.contextValue(l.text), lexemes[n+2].at + 1
		case l.kind == text:
			return sc.engineID(l.text), l.at + len(l.text) + 2
		}
		return "", 0
	})
}

// replaceLexemes asks for what stands instead of the nth lexeme, up to where; an empty text leaves it as it is.
func replaceLexemes(sql string, lexemes []lexeme, replacement func(n int) (text string, end int)) string {
	var out strings.Builder
	done := 0
	for n, l := range lexemes {
		if text, end := replacement(n); text != "" {
			out.WriteString(sql[done:l.at] + text)
			done = end
		}
	}
	return out.String() + sql[done:]
}

// isCall tells whether the nth lexeme is a function without arguments.
func isCall(lexemes []lexeme, n int) bool {
	qualified := n > 0 && lexemes[n-1].text == "."
	return !qualified && n+2 < len(lexemes) && lexemes[n+1].text == "(" && lexemes[n+2].text == ")"
}

// contextValue is a literal for a context function, or nothing if the engine knows its value.
func (sc *scope) contextValue(name string) string {
	name = strings.ToUpper(name)
	function, known := functions[name]
	if !known || name == currentDatabase || name == currentSchema || name == currentTimestamp {
		return ""
	}
	value := function(sc)
	if value == nil {
		return "NULL"
	}
	return literal(*value)
}

// engineID is the engine's id for a query of the client's, as a literal.
func (sc *scope) engineID(queryID string) string {
	if id := sc.server.history.engineID(sc.user, queryID); id != "" {
		return "'" + id + "'"
	}
	return ""
}

// startInEngine executes what the engine has been handed. Nothing waits longer for it than the engine's timeout.
func (s *Server) startInEngine(e *execution, h handedOver) {
	ctx, stop := context.WithTimeout(s.engine.ctx, s.engine.timeout)
	started := s.engine.run(func() {
		defer stop()
		r := s.askEngine(ctx, e, h)
		if s.history.claim(e) {
			s.counters.statements.Add(1)
			s.history.settle(e, r, true)
		}
	})
	// A client that cancels, or goes, waits for nothing.
	if !started || !s.engine.run(func() {
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

func (s *Server) askEngine(ctx context.Context, e *execution, h handedOver) result {
	if !pause(ctx, s.queryLatency.get()) {
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	return s.within(ctx, e.scope.session, func(token string) (result, error) {
		var last engineAnswer
		for _, request := range h.requests(e.scope) {
			answer, err := s.engine.post(ctx, EndpointQuery, nil, token, request)
			if err != nil {
				return result{failure: s.engine.unreachable(ctx, err)}, err
			}
			if answer.forgotten() {
				return result{failure: engineFailure("the SQL engine has forgotten the session, and was restarted perhaps: " +
					"log in again; what it had in memory is gone")}, errForgotten
			}
			if failure := answer.failure(); failure != nil {
				return result{failure: failure}, nil
			}
			last = answer
		}
		return h.result(e, last), nil
	})
}

var errForgotten = errors.New("the engine has forgotten the session")

// engineContext is where a session of the engine is after a statement.
type engineContext struct {
	Database *string `json:"finalDatabaseName"`
	Schema   *string `json:"finalSchemaName"`
	QueryID  string  `json:"queryId"`
}

// result takes over what the statement has changed in the session, and makes the answer the client's.
func (h handedOver) result(e *execution, answer engineAnswer) result {
	var data map[string]json.RawMessage
	var after engineContext
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
	data["queryId"] = encoded(e.record.QueryID)
	data["finalRoleName"] = encoded(orNull(context.Role))
	data["finalWarehouseName"] = encoded(orNull(context.Warehouse))
	return result{engine: data, engineID: after.QueryID, size: len(answer.Data)}
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// encoded is for what cannot fail to encode.
func encoded(value any) json.RawMessage {
	var text bytes.Buffer
	_ = json.NewEncoder(&text).Encode(value)
	return bytes.TrimSpace(text.Bytes())
}
