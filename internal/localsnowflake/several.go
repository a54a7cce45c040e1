package localsnowflake

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	typeSeveral = 0xA000

	// maxStatements is how many statements a request may have.
	maxStatements = 1000
)

// several are the statements of one request, which run one after the other. Each has a result of its own, for which
// clients poll. Only a SQL engine makes them worth while.
type several struct {
	acknowledged
	parts []*execution
}

func (several) typeID() int64 { return typeSeveral }

// rows is not called: the parts run instead.
func (several) rows(*scope) ([][]*string, *failure) { return executedRow, nil }

// requestParameters are settings for one statement.
type requestParameters struct {
	StatementCount json.RawMessage `json:"MULTI_STATEMENT_COUNT"` // 1, if there is none; 0 is any number
}

func (p requestParameters) statementCount() int {
	n, err := strconv.Atoi(strings.Trim(string(p.StatementCount), `"`))
	if err != nil {
		return 1
	}
	return n
}

// split returns the statements of a text, without what is empty.
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

// readSeveral returns nothing if the request has one statement only.
func (s *Server) readSeveral(c *call, in queryRequest, sc *scope) statement {
	wanted := in.Parameters.statementCount()
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
	case len(texts) > maxStatements || len(in.Bindings) > 0:
		return rejected{failure: engineFailure("a request may have %d statements without bindings", maxStatements)}
	}
	var all several
	for _, text := range texts {
		part := newExecution(c, s.readOne(c, queryRequest{SQLText: text}), s.clock())
		part.record.Text, part.record.RequestID = text, ""
		part.scope = sc
		all.parts = append(all.parts, part)
	}
	return all
}

// runAll ends with the first failure, which is that of the request.
func (s *Server) runAll(ctx context.Context, all several) result {
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
	if h, ok := part.statement.(handedOver); ok {
		return s.askEngine(ctx, part, h)
	}
	if !pause(ctx, part.duration()) {
		return result{failure: s.engine.unreachable(ctx, ctx.Err())}
	}
	rows, failure := part.rows(part.scope)
	return result{columns: part.columns(part.scope), rows: rows, failure: failure}
}

// resultIDs are where the results of the parts are found, and what they are.
func (all several) resultIDs() (ids, types string) {
	var id, kind []string
	for _, part := range all.parts {
		id = append(id, part.record.QueryID)
		kind = append(kind, strconv.FormatInt(part.typeID(), 10))
	}
	return strings.Join(id, ","), strings.Join(kind, ",")
}
