package localsnowflake

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The statement types that drivers tell apart.
const (
	typeSelect       = 0x1000
	typeAlterSession = 0x4100
	typeUse          = 0x4300
	typeDescribe     = 0x4500
	typeTransaction  = 0x5000
	typeDDL          = 0x6000
)

// statement is one that parse recognises.
type statement interface {
	typeID() int64
	// duration is how long it runs before it is executed.
	duration() time.Duration
	columns(*scope) []column
	// rows executes it.
	rows(*scope) ([][]*string, *failure)
}

// scope is the context that a statement is executed in.
type scope struct {
	server   *Server
	user     string
	session  *session // in the SQL API, one for a statement of the SQL engine, or nil
	role     string   // in the SQL API
	bindings map[string]binding

	bindStage string // where bindings are that were too many for the request
}

// binding is the value of a ?.
type binding struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// text returns the value as a cell has it.
func (b binding) text() *string {
	var value *string
	if json.Unmarshal(b.Value, &value) != nil {
		raw := string(b.Value)
		value = &raw
	}
	if b.Type == "BOOLEAN" && value != nil {
		return booleanCell(strings.EqualFold(*value, "true") || *value == "1")
	}
	return value
}

func (sc *scope) context() sessionContext {
	if sc.session == nil {
		return sessionContext{Role: sc.role}
	}
	return sc.session.currentContext()
}

// instant has the methods that most statements have in common.
type instant struct{}

func (instant) duration() time.Duration { return 0 }

// rejected is a statement that fails.
type rejected struct {
	instant
	failure *failure
}

func (rejected) typeID() int64                         { return 0 }
func (rejected) columns(*scope) []column               { return nil }
func (r rejected) rows(*scope) ([][]*string, *failure) { return nil, r.failure }

// acknowledged answers with one row that says so.
type acknowledged struct{ instant }

var (
	executed     = "Statement executed successfully."
	executedRow  = [][]*string{{&executed}}
	statusColumn = []column{textColumn("status")}
)

func (acknowledged) columns(*scope) []column { return statusColumn }

// alterSession sets parameters. Only a SQL engine knows what autocommit means.
type alterSession struct {
	acknowledged
	autocommit bool
}

func (alterSession) typeID() int64                       { return typeAlterSession }
func (alterSession) rows(*scope) ([][]*string, *failure) { return executedRow, nil }

// transaction begins one or ends one. Ending none is no error.
type transaction struct {
	acknowledged
	open bool
}

func (transaction) typeID() int64 { return typeTransaction }

func (t transaction) rows(sc *scope) ([][]*string, *failure) {
	sc.session.update(func(s *session) { s.inTransaction = t.open })
	return executedRow, nil
}

type useKind int

const (
	useNothing useKind = iota
	useRole
	useWarehouse
	useDatabase
	useSchema
)

// use changes the context of a session. Every warehouse, database and schema that is named exists; roles are those of
// SetRoles.
type use struct {
	acknowledged
	kind     useKind
	name     string
	database string
}

func (use) typeID() int64 { return typeUse }

func (u use) rows(sc *scope) ([][]*string, *failure) {
	if current, _ := sc.server.users.find(sc.user); u.kind == useRole && !current.hasRole(u.name) {
		return nil, sc.server.refusedUse(u.name)
	}
	sc.session.update(func(s *session) { u.apply(&s.context) })
	return executedRow, nil
}

func (u use) apply(to *sessionContext) {
	switch u.kind {
	case useRole:
		to.Role = u.name
	case useWarehouse:
		to.Warehouse = u.name
	case useDatabase:
		to.Database, to.Schema = u.name, defaultSchema
	case useSchema:
		to.Schema = u.name
		if u.database != "" {
			to.Database = u.database
		}
	}
}

// needsSession tells which statements mean nothing in the SQL API.
func needsSession(st statement) bool {
	switch st := st.(type) {
	case forwarded:
		_, stage := st.parsed.(createStage)
		return !stage && needsSession(st.parsed)
	case alterSession, transaction, use, createStage, transfer:
		return true
	}
	return false
}

// selection is a SELECT without a table: one row.
type selection struct{ items []item }

type itemKind int

const (
	textLiteral itemKind = iota
	numberLiteral
	booleanLiteral
	nullLiteral
	contextFunction
	bindVariable
	waitCall
)

// item is one column of a selection.
type item struct {
	name  string
	kind  itemKind
	value string // of a literal, or the name of a function
	bind  int
	wait  time.Duration
}

func (selection) typeID() int64 { return typeSelect }

func (s selection) duration() (total time.Duration) {
	for _, i := range s.items {
		total += i.wait
	}
	return total
}

func (s selection) columns(sc *scope) []column {
	columns := make([]column, len(s.items))
	for n, i := range s.items {
		columns[n] = i.column(sc)
	}
	return columns
}

func (s selection) rows(sc *scope) ([][]*string, *failure) {
	row := make([]*string, len(s.items))
	for n, i := range s.items {
		value, failure := i.cell(sc)
		if failure != nil {
			return nil, failure
		}
		row[n] = value
	}
	return [][]*string{row}, nil
}

// isOfSession tells whether the value depends on the session, or the time, and not on data.
func (i item) isOfSession() bool { return i.kind == contextFunction || i.kind == waitCall }

func (i item) column(sc *scope) column {
	switch {
	case i.kind == numberLiteral:
		return literalColumn(i.name, i.value)
	case i.kind == booleanLiteral:
		return booleanColumn(i.name)
	case i.kind == contextFunction && i.value == currentTimestamp:
		return timestampColumn(i.name)
	case i.kind == bindVariable:
		return boundColumn(i.name, sc.bindings[strconv.Itoa(i.bind)])
	}
	return textColumn(i.name)
}

func (i item) cell(sc *scope) (*string, *failure) {
	switch i.kind {
	case nullLiteral:
		return nil, nil
	case contextFunction:
		return functions[i.value](sc), nil
	case bindVariable:
		bound, ok := sc.bindings[strconv.Itoa(i.bind)]
		if !ok {
			return nil, &failure{code: BindVariableNotSet, sqlState: "42601",
				message: "SQL compilation error:\nBind variable ? not set."}
		}
		return bound.text(), nil
	}
	return &i.value, nil
}

const (
	currentTimestamp = "CURRENT_TIMESTAMP"
	currentDatabase  = "CURRENT_DATABASE"
	currentSchema    = "CURRENT_SCHEMA"
	publicRole       = "PUBLIC"
)

// functions are the context functions. A nil is NULL.
var functions = map[string]func(*scope) *string{
	"CURRENT_VERSION":         func(sc *scope) *string { return &sc.server.version },
	"CURRENT_ACCOUNT":         func(sc *scope) *string { return &sc.server.account },
	"CURRENT_USER":            func(sc *scope) *string { return &sc.user },
	"CURRENT_AVAILABLE_ROLES": availableRoles,
	"CURRENT_ROLE":            func(sc *scope) *string { return orNull(sc.context().Role) },
	"CURRENT_WAREHOUSE":       func(sc *scope) *string { return orNull(sc.context().Warehouse) },
	currentDatabase:           func(sc *scope) *string { return orNull(sc.context().Database) },
	currentSchema:             func(sc *scope) *string { return orNull(sc.context().Schema) },
	"CURRENT_SESSION":         currentSession,
	currentTimestamp:          timestamp,
}

// availableRoles is a JSON array, as Snowflake's.
func availableRoles(sc *scope) *string {
	current, _ := sc.server.users.find(sc.user)
	roles, _ := json.Marshal(append(slices.Clone(current.roles), publicRole))
	return orNull(string(roles))
}

func currentSession(sc *scope) *string {
	if sc.session == nil || sc.session.id == 0 {
		return nil
	}
	return orNull(strconv.FormatInt(sc.session.id, 10))
}

// timestamp is in the form that drivers get: seconds with nine decimals.
func timestamp(sc *scope) *string {
	t := sc.server.clock()
	return orNull(fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()))
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// column describes one column of a result.
type column struct {
	Name       string  `json:"name"`
	Database   string  `json:"database"`
	Schema     string  `json:"schema"`
	Table      string  `json:"table"`
	Type       string  `json:"type"`
	Nullable   bool    `json:"nullable"`
	Length     *int    `json:"length"`
	ByteLength *int    `json:"byteLength"`
	Precision  *int    `json:"precision"`
	Scale      *int    `json:"scale"`
	Collation  *string `json:"collation"`
}

var (
	maxTextLength = 16777216
	noDecimals    = 0
	milliseconds  = 3
	nanoseconds   = 9
)

func textColumn(name string) column {
	return column{Name: name, Type: "text", Nullable: true, Length: &maxTextLength, ByteLength: &maxTextLength}
}

func numberColumn(name string, digits, decimals int) column {
	return column{Name: name, Type: "fixed", Precision: &digits, Scale: &decimals}
}

// literalColumn is as wide as the number that is written out.
func literalColumn(name, number string) column {
	whole, decimals, _ := strings.Cut(strings.TrimPrefix(number, "-"), ".")
	whole = strings.TrimLeft(whole, "0")
	return numberColumn(name, max(len(whole)+len(decimals), 1), len(decimals))
}

func booleanColumn(name string) column { return column{Name: name, Type: "boolean"} }

func boundColumn(name string, b binding) column {
	switch b.Type {
	case "FIXED":
		return numberColumn(name, 38, 0)
	case "BOOLEAN":
		return booleanColumn(name)
	}
	return textColumn(name)
}

func booleanCell(value bool) *string {
	cell := "0"
	if value {
		cell = "1"
	}
	return &cell
}

func timestampColumn(name string) column {
	return column{Name: name, Type: "timestamp_ltz", Precision: &noDecimals, Scale: &nanoseconds}
}

// momentColumn is the type of SHOW's columns with times.
func momentColumn(name string) column {
	return column{Name: name, Type: "timestamp_ltz", Nullable: true, Precision: &noDecimals, Scale: &milliseconds}
}
