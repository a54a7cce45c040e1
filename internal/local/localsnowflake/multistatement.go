package localsnowflake

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	typeMultiStatement = 0xA000

	// maxStatements is how many statements a request may have.
	maxStatements = 1000
)

// multiStatement is a request with several statements, which run one after the other. Clients fetch the result of each.
// Only an account with a SQL engine takes such requests.
type multiStatement struct {
	acknowledged
	parts []*execution
}

func (multiStatement) typeID() int64 { return typeMultiStatement }

// rows is not called: the parts run instead.
func (multiStatement) rows(*scope) ([][]*string, *failure) { return executedRow, nil }

// statementCount is how many statements a request says that it has, 0 for any number. It has one if it says nothing.
func statementCount(parameters json.RawMessage) int {
	var of struct {
		StatementCount json.RawMessage `json:"MULTI_STATEMENT_COUNT"`
	}
	_ = json.Unmarshal(parameters, &of) // of another form, it says nothing
	n, err := strconv.Atoi(strings.Trim(string(of.StatementCount), `"`))
	if err != nil {
		return 1
	}
	return n
}

// split returns the statements of a text, without empty ones.
func split(sql string) (statements []string) {
	lexemes, broken := lex(sql)
	if broken != nil {
		return []string{sql}
	}
	from := 0
	for n, l := range lexemes {
		if l.kind != endOfText && (l.kind != symbol || l.text != ";") {
			continue
		}
		if n > from {
			statements = append(statements, sql[lexemes[from].at:l.at])
		}
		from = n + 1
	}
	return statements
}

// readMultiStatement returns nil if the request has one statement only.
func (s *Server) readMultiStatement(c *call, in queryRequest, sc *scope) statement {
	wanted := statementCount(in.Parameters)
	if s.engine == nil || wanted == 1 {
		return nil
	}
	texts := split(in.SQLText)
	switch {
	case wanted != 0 && wanted != len(texts):
		return rejected{failure: &failure{code: StatementCountMismatch, sqlState: "0A000",
			message: fmt.Sprintf("Actual statement count %d did not match the desired statement count %d.", len(texts), wanted)}}
	case len(texts) < 2:
		return nil
	case len(texts) > maxStatements:
		return rejected{failure: engineFailure("a request may have at most %d statements", maxStatements)}
	case len(in.Bindings) > 0:
		return rejected{failure: engineFailure("a request with several statements may have no bindings; send the statements one by one")}
	}
	var all multiStatement
	for _, text := range texts {
		part := newExecution(c, s.readOne(c, queryRequest{SQLText: text}), s.clock())
		part.record.Text, part.record.RequestID = text, ""
		part.scope = sc
		all.parts = append(all.parts, part)
	}
	return all
}

// runAll stops at the first failure and returns it.
func (s *Server) runAll(ctx context.Context, all multiStatement) result {
	for _, part := range all.parts {
		s.history.begin(part, false)
	}
	var failure *failure
	for _, part := range all.parts {
		switch {
		case failure != nil:
			s.history.cancel(part, failure)
		case s.history.claim(part):
			r := s.runPart(ctx, part)
			s.counters.statements.Add(1)
			s.history.settle(part, r, true)
			failure = r.failure
		}
	}
	return result{columns: statusColumn, rows: executedRow, failure: failure}
}

func (s *Server) runPart(ctx context.Context, part *execution) result {
	if h, ok := part.statement.(forwarded); ok {
		return s.askEngine(ctx, part, h)
	}
	if !pause(ctx, part.duration()) {
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	rows, failure := part.rows(part.scope)
	return result{columns: part.columns(part.scope), rows: rows, failure: failure}
}

// resultIDs are the query ids and statement types of the parts, which have run.
func (all multiStatement) resultIDs(h *history) (ids, types string) {
	var id, kind []string
	for _, part := range all.parts {
		id = append(id, part.record.QueryID)
		kind = append(kind, strconv.FormatInt(cmp.Or(h.resultOf(part).typeID, part.typeID()), 10))
	}
	return strings.Join(id, ","), strings.Join(kind, ",")
}
