package localsnowflake

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parse recognises one statement. A text that it does not recognise becomes a statement that fails.
func parse(sql string) statement {
	if t, ok := parseTransfer(sql); ok {
		return t
	}
	lexemes, broken := lex(sql)
	if broken != nil {
		return rejected{failure: broken}
	}
	switch n := countStatements(lexemes); n {
	case 0:
		return rejected{failure: &failure{code: StatementEmpty, sqlState: "42601", message: "SQL compilation error:\nEmpty SQL statement.", final: true}}
	case 1:
	default:
		return rejected{failure: &failure{code: StatementCountMismatch, sqlState: "0A000", final: true,
			message: fmt.Sprintf("Actual statement count %d did not match the desired statement count 1.", n)}}
	}
	p := &parser{sql: sql, lexemes: lexemes}
	for p.symbol(";") {
	}
	parsed := p.statement()
	for p.symbol(";") {
	}
	if _, bad := parsed.(rejected); !bad && !p.atEnd() {
		return p.unexpected()
	}
	return parsed
}

func countStatements(lexemes []lexeme) (n int) {
	afterSemicolon := true
	for _, l := range lexemes[:len(lexemes)-1] {
		semicolon := l.kind == symbol && l.text == ";"
		if afterSemicolon && !semicolon {
			n++
		}
		afterSemicolon = semicolon
	}
	return n
}

type parser struct {
	sql     string
	lexemes []lexeme
	next    int
	binds   int // how many ? there were
}

func (p *parser) peek() lexeme { return p.lexemes[p.next] }

func (p *parser) take() lexeme {
	l := p.lexemes[p.next]
	p.next = min(p.next+1, len(p.lexemes)-1)
	return l
}

func (p *parser) atEnd() bool { return p.peek().kind == endOfText }

// words takes the keywords if all of them are next.
func (p *parser) words(keywords ...string) bool {
	for i, keyword := range keywords {
		at := p.next + i
		if at >= len(p.lexemes) || p.lexemes[at].kind != word || !strings.EqualFold(p.lexemes[at].text, keyword) {
			return false
		}
	}
	p.next += len(keywords)
	return true
}

func (p *parser) symbol(s string) bool {
	if l := p.peek(); l.kind != symbol || l.text != s {
		return false
	}
	p.take()
	return true
}

// identifier takes a name: upper case unless it is quoted. The Snowflake CLI writes IDENTIFIER('name').
func (p *parser) identifier() (string, bool) {
	if name, ok := p.identifierOf(); ok {
		return unquoted(name), fits(name)
	}
	switch l := p.peek(); l.kind {
	case word:
		p.take()
		return strings.ToUpper(l.text), true
	case quoted:
		p.take()
		return l.text, true
	}
	return "", false
}

func (p *parser) identifierOf() (string, bool) {
	if !p.isWord("IDENTIFIER") || len(p.lexemes)-p.next < 4 {
		return "", false
	}
	name := p.lexemes[p.next+2]
	if p.lexemes[p.next+1].text != "(" || name.kind != text || p.lexemes[p.next+3].text != ")" {
		return "", false
	}
	p.next += 4
	return name.text, true
}

// unquoted is the name that a text means: upper case unless it is in double quotes.
func unquoted(name string) string {
	if inner, ok := strings.CutPrefix(name, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.ToUpper(name)
}

// mustName is unquoted, and panics where a statement would fail.
func mustName(name string) string {
	if !fits(name) {
		panic("localsnowflake: a name is longer than 255 characters: " + name)
	}
	return unquoted(name)
}

func (p *parser) unexpected() statement {
	l := p.peek()
	return rejected{failure: parseFailure(p.sql, l.at, "syntax error", "unexpected '"+l.text+"'")}
}

func (p *parser) statement() statement {
	switch {
	case p.words("SELECT"):
		return p.selection()
	case p.words("CALL"):
		return p.callStatement()
	case p.words("ALTER", "USER"):
		return p.alterUser()
	case p.words("ALTER", "SESSION", "SET"), p.words("ALTER", "SESSION", "UNSET"):
		return p.alterSession()
	case p.words("DESC", "USER"), p.words("DESCRIBE", "USER"):
		return p.describeUser()
	case p.words("SHOW", "USERS"):
		return p.showUsers()
	case p.words("SHOW", "USER", "KEY", "PAIRS"):
		return p.showKeyPairs()
	case p.words("INSERT", "INTO"):
		return p.insert()
	case p.words("CREATE"):
		return p.createStatement()
	case p.words("DROP"):
		return p.dropStatement()
	case p.words("GRANT"):
		return p.grant()
	case p.words("USE"):
		return p.use()
	case p.words("BEGIN"), p.words("START", "TRANSACTION"):
		return p.begin()
	case p.words("COMMIT"), p.words("ROLLBACK"):
		p.words("WORK")
		return transaction{open: false}
	}
	return p.unexpected()
}

func (p *parser) begin() statement {
	if !p.words("WORK") {
		p.words("TRANSACTION")
	}
	if p.words("NAME") {
		if _, ok := p.identifier(); !ok {
			return p.unexpected()
		}
	}
	return transaction{open: true}
}

// alterSession accepts whatever is set.
func (p *parser) alterSession() statement {
	var a alterSession
	for !p.atEnd() && p.peek().text != ";" {
		a.autocommit = a.autocommit || p.isWord("AUTOCOMMIT")
		p.take()
	}
	return a
}

func (p *parser) use() statement {
	switch {
	case p.words("SECONDARY", "ROLES"):
		if _, ok := p.identifier(); !ok {
			return p.unexpected()
		}
		return use{kind: useNothing}
	case p.words("ROLE"):
		return p.useName(useRole)
	case p.words("WAREHOUSE"):
		return p.useName(useWarehouse)
	case p.words("SCHEMA"):
		return p.useName(useSchema)
	}
	p.words("DATABASE")
	return p.useName(useDatabase)
}

// useName takes name or database.schema.
func (p *parser) useName(kind useKind) statement {
	name, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	if !p.symbol(".") {
		return use{kind: kind, name: name}
	}
	schema, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	return use{kind: useSchema, name: schema, database: name}
}

func (p *parser) isWord(keyword string) bool {
	l := p.peek()
	return l.kind == word && strings.EqualFold(l.text, keyword)
}

func (p *parser) selection() statement {
	if p.symbol("*") {
		if !p.words("FROM") {
			return p.unexpected()
		}
		if p.words("VALUES") {
			return p.values()
		}
		return p.missingTable()
	}
	var items []item
	for {
		i, ok := p.item()
		if !ok {
			return p.unexpected()
		}
		items = append(items, i)
		if !p.symbol(",") {
			break
		}
	}
	if p.words("FROM") {
		return p.missingTable()
	}
	return selection{items}
}

// values takes rows of as many expressions each.
func (p *parser) values() statement {
	var t table
	for {
		line, ok := p.line()
		if !ok || len(t.lines) > 0 && len(line) != len(t.lines[0]) {
			return p.unexpected()
		}
		t.lines = append(t.lines, line)
		if !p.symbol(",") {
			return t
		}
	}
}

func (p *parser) line() ([]item, bool) {
	if !p.symbol("(") {
		return nil, false
	}
	var line []item
	for {
		i, ok := p.expression()
		if !ok {
			return nil, false
		}
		line = append(line, i)
		if !p.symbol(",") {
			return line, p.symbol(")")
		}
	}
}

// missingTable fails as Snowflake does: there are no tables here.
func (p *parser) missingTable() statement {
	name, ok := p.name()
	if !ok {
		return p.unexpected()
	}
	return rejected{failure: noTable(name)}
}

// name is an identifier, or several with dots between them.
func (p *parser) name() (string, bool) {
	name, ok := p.identifier()
	for ok && p.symbol(".") {
		part, _ := p.identifier()
		name += "." + part
	}
	return name, ok
}

func noTable(name string) *failure {
	return &failure{code: ObjectNotFound, sqlState: "42S02",
		message: fmt.Sprintf("SQL compilation error:\nObject '%s' does not exist or not authorized.", name)}
}

// insert is followed by values for every column of the table, or for those that it names.
func (p *parser) insert() statement {
	name, ok := p.name()
	if !ok {
		return p.unexpected()
	}
	columns, ok := p.columnNames()
	if !ok || !p.words("VALUES") {
		return p.unexpected()
	}
	values, ok := p.values().(table)
	if !ok {
		return p.unexpected()
	}
	if given := len(values.lines[0]); columns > 0 && columns != given {
		return rejected{failure: &failure{code: ColumnCountMismatch, sqlState: "21S01", message: fmt.Sprintf(
			"SQL compilation error:\nInsert value list does not match column list expecting %d but got %d", columns, given)}}
	}
	return insert{table: name, lines: len(values.lines)}
}

// columnNames takes names in parentheses, if there are any, and returns how many.
func (p *parser) columnNames() (n int, ok bool) {
	if !p.symbol("(") {
		return 0, true
	}
	for {
		if _, ok := p.identifier(); !ok {
			return 0, false
		}
		n++
		if !p.symbol(",") {
			return n, p.symbol(")")
		}
	}
}

// createStage accepts whatever is said about the stage.
func (p *parser) createStage() statement {
	p.words("OR", "REPLACE")
	p.words("TEMPORARY")
	if !p.words("STAGE") {
		return p.unexpected()
	}
	for !p.atEnd() && p.peek().text != ";" {
		p.take()
	}
	return createStage{}
}

// callStatement knows SYSTEM$WAIT only.
func (p *parser) callStatement() statement {
	if !p.isWord("SYSTEM$WAIT") {
		return p.unexpected()
	}
	i, ok := p.item()
	if !ok {
		return p.unexpected()
	}
	return selection{[]item{i}}
}

// item takes one expression of a SELECT, with its alias.
func (p *parser) item() (item, bool) {
	from := p.next
	parsed, ok := p.expression()
	if !ok {
		return item{}, false
	}
	parsed.name = p.label(from)
	if !p.words("AS") && p.isWord("FROM") {
		return parsed, true
	}
	if alias, ok := p.identifier(); ok {
		parsed.name = alias
	}
	return parsed, true
}

// label is what Snowflake calls a column without an alias: its expression, in upper case but for strings.
func (p *parser) label(from int) string {
	label := ""
	for _, l := range p.lexemes[from:p.next] {
		if l.kind == text {
			label += "'" + l.text + "'"
		} else {
			label += strings.ToUpper(l.text)
		}
	}
	return label
}

func (p *parser) expression() (item, bool) {
	switch l := p.peek(); {
	case l.kind == text:
		return item{value: p.take().text, kind: textLiteral}, true
	case l.kind == number:
		return p.number("")
	case p.symbol("-"):
		return p.number("-")
	case p.symbol("?"):
		p.binds++
		return item{bind: p.binds, kind: bindVariable}, true
	case p.words("SYSTEM$WAIT"):
		return p.wait()
	case p.words("SYSTEM$CANCEL_ALL_QUERIES"):
		return p.cancelAllQueries()
	case p.words("NULL"):
		return item{kind: nullLiteral}, true
	case p.words("TRUE"), p.words("FALSE"):
		return item{value: *booleanCell(strings.EqualFold(l.text, "true")), kind: booleanLiteral}, true
	case l.kind == word:
		return p.function()
	}
	return item{}, false
}

func (p *parser) number(sign string) (item, bool) {
	if l := p.peek(); l.kind != number || strings.Count(l.text, ".") > 1 {
		return item{}, false
	}
	return item{value: sign + p.take().text, kind: numberLiteral}, true
}

// function takes a context function, which needs no parentheses.
func (p *parser) function() (item, bool) {
	name := strings.ToUpper(p.peek().text)
	if _, known := functions[name]; !known {
		return item{}, false
	}
	p.take()
	if p.symbol("(") && !p.symbol(")") {
		return item{}, false
	}
	return item{value: name, kind: contextFunction}, true
}

var waitUnits = map[string]time.Duration{
	"MILLISECONDS": time.Millisecond,
	"SECONDS":      time.Second,
	"MINUTES":      time.Minute,
	"HOURS":        time.Hour,
	"DAYS":         24 * time.Hour,
}

// wait takes SYSTEM$WAIT(amount [, 'unit']).
func (p *parser) wait() (item, bool) {
	if !p.symbol("(") || p.peek().kind != number {
		return item{}, false
	}
	amount, unit := p.take().text, "SECONDS"
	if p.symbol(",") {
		unit = strings.ToUpper(p.take().text)
	}
	scale, known := waitUnits[unit]
	if !known || !p.symbol(")") {
		return item{}, false
	}
	n, err := strconv.ParseFloat(amount, 64)
	if err != nil {
		return item{}, false
	}
	return item{
		kind:  waitCall,
		value: "waited " + amount + " " + strings.ToLower(unit),
		wait:  time.Duration(n * float64(scale)),
	}, true
}

// cancelAllQueries takes SYSTEM$CANCEL_ALL_QUERIES(session), which Snowpark sends before it closes a session. It cancels nothing.
func (p *parser) cancelAllQueries() (item, bool) {
	if !p.symbol("(") || p.peek().kind != number {
		return item{}, false
	}
	p.take()
	return item{kind: textLiteral, value: "0 queries cancelled"}, p.symbol(")")
}
