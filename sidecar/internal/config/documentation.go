package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// commands are those that have settings. A setting that several take is documented with the first of them.
var commands = []struct {
	table  string // in the documentation; "" for the one that the publishing commands share
	config Config
}{
	{"", new(ExecConfig)}, // with the settings of run and once
	{"", new(HealthcheckConfig)},
	{"doctor", new(DoctorConfig)},
	{"keygen", new(KeygenConfig)},
	{"rotate", new(RotateConfig)},
}

// An entry is a setting in the table that documents it.
type entry struct {
	definition
	table string
}

// documented is every setting once, those without a flag last.
var documented = sync.OnceValue(func() []entry {
	var all []entry
	known := map[string]bool{}
	for _, c := range commands {
		for _, f := range c.config.fields() {
			if !known[f.name()] {
				known[f.name()] = true
				all = append(all, entry{f.definition, c.table})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(rank(a.definition), rank(b.definition)) })
	return all
})

func rank(d definition) int {
	if d.flag == "" {
		return 1
	}
	return 0
}

// IsSecret reports whether the variable of this name holds a secret that is not CMD's own. c is loaded.
func IsSecret(c Config, name string) bool {
	if e, ok := c.(*ExecConfig); ok && e.isCommands(name) {
		return false
	}
	return slices.ContainsFunc(documented(), func(e entry) bool { return e.secret && e.name() == name })
}

// WithoutSecrets is an environment without the variables that hold secrets, for a program that gets the published key.
func WithoutSecrets(c Config, environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return IsSecret(c, name)
	})
}

// Tables are the names of the tables for the documentation: "" for the commands that publish, and that of each command
// with settings of its own.
func Tables() []string {
	var all []string
	for _, c := range commands {
		if !slices.Contains(all, c.table) {
			all = append(all, c.table)
		}
	}
	return all
}

// Markdown is a table for the documentation, of all its settings or only of those with these flags.
func Markdown(table string, only ...string) string {
	var b strings.Builder
	b.WriteString("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, e := range documented() {
		if e.table == table && (len(only) == 0 || slices.Contains(only, e.flag)) {
			help := e.help
			if e.topic == topicCommand {
				help = "`exec` only. " + help
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", code(e.flag, "--"), e.name(), code(e.preset, ""), help)
		}
	}
	return b.String()
}

func code(text, prefix string) string {
	if text == "" {
		return ""
	}
	return "`" + prefix + text + "`"
}
