package localsnowflake

import (
	"strconv"
	"strings"
)

// translateTransfer writes PUT and COPY as fakesnow understands them: bindings as literals, stages and
// MATCH_BY_COLUMN_NAME's value without quotes, and options of FILE_FORMAT without commas between them.
func (sc *scope) translateTransfer(sql string, lexemes []lexeme) string {
	put := lexemes[0].is("PUT")
	bindings, format := 0, 0
	return replaceLexemes(sql, lexemes, func(n int) (string, int) {
		l := lexemes[n]
		end := l.at + len(l.text)
		format = formatDepth(format, lexemes[:n+1])
		switch {
		case l.isQuoted(sql) && (standsForStage(lexemes, n, put) && format == 0 || n > 1 && lexemes[n-2].is("MATCH_BY_COLUMN_NAME")):
			return l.text, end + 2
		case l.kind == symbol && l.text == "," && format == 1:
			return " ", end
		case l.kind == symbol && l.text == "?":
			bindings++
			return sc.transferBinding(put, bindings), end
		}
		return "", 0
	})
}

// formatDepth returns how many parentheses are open in FILE_FORMAT = ( after the last lexeme, from how many were before it.
func formatDepth(depth int, lexemes []lexeme) int {
	n := len(lexemes) - 1
	l := lexemes[n]
	switch {
	case l.kind != symbol:
	case l.text == "(" && (depth > 0 || n > 1 && lexemes[n-2].is("FILE_FORMAT")):
		return depth + 1
	case l.text == ")" && depth > 0:
		return depth - 1
	}
	return depth
}

// standsForStage tells whether the nth lexeme, a string, is a stage: behind FROM or INTO, and the target of a PUT.
func standsForStage(lexemes []lexeme, n int, put bool) bool {
	return isStage(lexemes[n].text) && (put || n > 0 && lexemes[n-1].is("FROM", "INTO"))
}

func isStage(text string) bool { return strings.HasPrefix(text, "@") && !strings.Contains(text, " ") }

// transferBinding is the text for the nth binding, or nothing if it has no value.
func (sc *scope) transferBinding(put bool, n int) string {
	var value *string
	if bound, ok := sc.bindings[strconv.Itoa(n)]; ok {
		value = bound.text()
	}
	if put {
		value = sc.session.boundStage(value)
	}
	switch {
	case value == nil:
		return ""
	case isStage(*value):
		return *value
	}
	return literal(*value)
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

// translate replaces context functions such as CURRENT_USER() by their values, the query id of RESULT_SCAN by the
// engine's, and forms that fakesnow refuses by forms that it takes.
func (sc *scope) translate(sql string, lexemes []lexeme) string {
	numbered := sc.hasNumberedBindings(lexemes)
	return replaceLexemes(sql, lexemes, func(n int) (string, int) {
		switch l := lexemes[n]; {
		case l.kind == word && isCall(lexemes, n):
			return sc.contextValue(l.text), lexemes[n+2].at + 1
		case l.isQuoted(sql) && n > 1 && lexemes[n-1].text == "(" && lexemes[n-2].is("RESULT_SCAN"):
			return sc.engineID(l.text), l.at + len(l.text) + 2
		case isTemporary(lexemes, n):
			return " ", l.at + len(l.text)
		case numbered && bindingNumber(lexemes, n) != "":
			return "?", l.at + 1 + len(bindingNumber(lexemes, n))
		}
		return "", 0
	})
}

// hasNumberedBindings tells whether all bindings are named by their numbers, once and in order: fakesnow has no $1 and
// :1. Beside bindings by ?, $1 is a column of VALUES or of a stage.
func (sc *scope) hasNumberedBindings(lexemes []lexeme) bool {
	named := 0
	for n, l := range lexemes {
		if l.kind == symbol && l.text == "?" {
			return false
		}
		switch number := bindingNumber(lexemes, n); number {
		case "":
		case strconv.Itoa(named + 1):
			named++
		default:
			return false
		}
	}
	return named > 0 && named == len(sc.bindings)
}

// bindingNumber is the number in $1 or :1, but not in a:1.
func bindingNumber(lexemes []lexeme, n int) string {
	l := lexemes[n]
	if l.kind != symbol || l.text != "$" && l.text != ":" {
		return ""
	}
	if next := lexemes[n+1]; next.kind != number || next.at != l.at+1 {
		return ""
	}
	if l.text == ":" && n > 0 && lexemes[n-1].kind != symbol && lexemes[n-1].at+len(lexemes[n-1].text) == l.at {
		return ""
	}
	return lexemes[n+1].text
}

// isTemporary finds TEMPORARY in CREATE TEMPORARY TABLE A.B, or VIEW. DuckDB keeps temporary objects in a catalog of its own
// and refuses other names: without the word the object stays until it is dropped.
func isTemporary(lexemes []lexeme, n int) bool {
	if n == 0 || !lexemes[n].is("TEMPORARY", "TEMP") || !lexemes[n-1].is("CREATE", "REPLACE") {
		return false
	}
	rest := lexemes[n+1:]
	if !rest[0].is("TABLE", "VIEW") {
		return false
	}
	rest = rest[1:]
	for rest[0].is("IF", "NOT", "EXISTS") {
		rest = rest[1:]
	}
	return len(rest) > 1 && rest[1].kind == symbol && rest[1].text == "."
}

// replaceLexemes replaces the nth lexeme by a text, up to an end. An empty text leaves it unchanged.
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

// contextValue is the value of a context function as a literal, or empty if the engine knows the value.
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
