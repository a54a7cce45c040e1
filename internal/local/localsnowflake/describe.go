package localsnowflake

import "slices"

// described answers a request to describe the statement. The engine gets only statements that it describes without
// executing them, or that only read: fakesnow executes all others.
func (h forwarded) described() statement {
	lexemes, broken := lex(h.request.SQLText)
	if broken != nil {
		return rejected{failure: broken}
	}
	for _, l := range lexemes {
		if l.kind == symbol && l.text == ";" { // fakesnow executes whatever comes after it
			h.request.SQLText = h.request.SQLText[:l.at]
			break
		}
	}
	sql := h.request.SQLText
	switch {
	case beginsAny(sql, describedQueries):
		return h.asQuery(lexemes)
	case beginsAny(sql, describedByEngine):
		return h
	case beginsAny(sql, describedByStatus):
		return statusOnly{}
	}
	switch st := h.parsed.(type) {
	case use, transaction, alterSession:
		return st
	}
	return rejected{failure: &failure{code: StatementNotPrepared, sqlState: "0A000",
		message: "The SQL engine cannot describe this statement without executing it. Execute it, and see what its result has."}}
}

var (
	describedQueries  = [][]string{{"SELECT"}, {"WITH"}}
	describedByEngine = [][]string{
		{"INSERT", "INTO"}, {"INSERT", "OVERWRITE", "INTO"}, {"UPDATE"}, {"DELETE"}, {"MERGE"}, {"SHOW"}, {"DESC"}, {"DESCRIBE"},
	}
	describedByStatus = [][]string{{"CREATE"}, {"DROP"}, {"UNDROP"}, {"ALTER", "TABLE"}, {"ALTER", "VIEW"}, {"ALTER", "SCHEMA"},
		{"ALTER", "DATABASE"}, {"TRUNCATE"}, {"COMMENT"}, {"GRANT"}, {"REVOKE"}}
)

// statusOnly is a statement whose result is a status. It is described, not executed.
type statusOnly struct{ acknowledged }

func (statusOnly) typeID() int64 { return typeDDL }

func (statusOnly) rows(*scope) ([][]*string, *failure) { return executedRow, nil }

// asQuery puts a query with UNION and the like into a subquery: fakesnow describes one SELECT, and executes several.
func (h forwarded) asQuery(lexemes []lexeme) statement {
	if slices.ContainsFunc(lexemes, func(l lexeme) bool { return l.is("UNION", "INTERSECT", "EXCEPT", "MINUS") }) {
		h.request.SQLText = "SELECT * FROM (" + h.request.SQLText + "\n)"
	}
	return h
}
