// Package connections makes the two files by which Snowflake's clients connect by name: connections.toml, with a section
// for each connection, and the config.toml that the snow CLI needs beside it.
//
// It writes no file, holds no secret, and never lets a value change the meaning of the file: it refuses values that
// would need quoting.
package connections

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// The files in the directory that SNOWFLAKE_HOME names.
const (
	FileName   = "connections.toml"
	ConfigName = "config.toml"

	// Mark is the first line of both. A file without it is not the sidecar's, and stays.
	Mark = "# snowkey writes this file: changes are lost."
)

// Default is the connection that clients take if none is named.
const Default = "default"

// A Connection is one section of connections.toml. A value that is "" is left out.
type Connection struct {
	Account, User                     string
	KeyFile                           string // path of the PEM
	Role, Warehouse, Database, Schema string // as SHOW shows the names, without quotes
	Host, Port, Protocol              string
}

// An entry is a value under the names that clients read it by.
type entry struct {
	names   []string
	value   string
	written string // the value as the file has it, if that differs
}

// entries are all entries in the order of the file. Every value is a string, also the port: JDBC takes no number.
func (c Connection) entries() []entry {
	return []entry{
		{names: []string{"account"}, value: c.Account},
		{names: []string{"user"}, value: c.User},
		// The first name is for Python, JDBC, Node 3, .NET and the snow CLI, the second for Node before 3.
		{names: []string{"private_key_file", "privateKeyPath"}, value: c.KeyFile},
		{names: []string{"role"}, value: c.Role, written: identifier(c.Role)},
		{names: []string{"warehouse"}, value: c.Warehouse, written: identifier(c.Warehouse)},
		{names: []string{"database"}, value: c.Database, written: identifier(c.Database)},
		{names: []string{"schema"}, value: c.Schema, written: identifier(c.Schema)},
		{names: []string{"host"}, value: c.Host},
		{names: []string{"port"}, value: c.Port},
		{names: []string{"protocol"}, value: c.Protocol},
	}
}

// identifier is a name as clients pass it on to Snowflake, which reads it as a statement does.
func identifier(name string) string {
	if name == "" {
		return ""
	}
	return snowflake.Identifier(name)
}

// Refused returns the names of the values that cannot be in connections.toml.
func (c Connection) Refused() []string {
	var names []string
	for _, e := range c.entries() {
		if !plain(e.value) {
			names = append(names, e.names[0])
		}
	}
	return names
}

// plain reports whether every TOML reader reads the value as it is.
func plain(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || r == '"' || r == '\'' })
}

// A Section is a connection with its name, as text.
type Section struct{ Name, text string }

// Section is c under a name, which has letters, digits, _ and - only. None of c's values may be refused.
func (c Connection) Section(name string) Section {
	if refused := c.Refused(); refused != nil {
		panic(fmt.Sprintf("connections: %s is refused", refused[0]))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\nauthenticator = \"SNOWFLAKE_JWT\"\n", name)
	for _, e := range c.entries() {
		if e.value == "" {
			continue
		}
		for _, key := range e.names {
			fmt.Fprintf(&b, "%s = \"%s\"\n", key, escape.Replace(cmp.Or(e.written, e.value)))
		}
	}
	return Section{name, b.String()}
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// As is the same connection under another name.
func (s Section) As(name string) Section {
	return Section{name, "[" + name + "]\n" + s.text[len("["+s.Name+"]\n"):]}
}

const mark = Mark + "\n"

// File is connections.toml with these sections.
func File(sections []Section) []byte {
	text := mark
	for _, s := range sections {
		text += "\n" + s.text
	}
	return []byte(text)
}

// Config is the config.toml beside it. It turns off the log of the snow CLI, which would be below its home directory:
// that is the key directory, and readers mount it read-only.
func Config() []byte {
	return fmt.Appendf(nil, "%s\ndefault_connection_name = \"%s\"\n\n[cli.logs]\nsave_logs = false\n", mark, Default)
}

// IsOurs reports whether snowkey wrote the file of this content.
func IsOurs(content []byte) bool { return bytes.HasPrefix(content, []byte(mark)) }

// Sections returns the sections of a connections.toml that snowkey wrote.
func Sections(file []byte) []Section {
	text, ours := strings.CutPrefix(string(file), mark+"\n")
	if !ours {
		return nil
	}
	var all []Section
	for block := range strings.SplitSeq(text, "\n\n") {
		name, _, found := strings.Cut(strings.TrimPrefix(block, "["), "]\n")
		if strings.HasPrefix(block, "[") && found {
			all = append(all, Section{name, strings.TrimSuffix(block, "\n") + "\n"})
		}
	}
	return all
}
