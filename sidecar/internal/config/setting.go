package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// A definition is one thing that a user can set. One with a flag also has the variable made of the flag's name; one
// without has only its variable.
type definition struct {
	flag     string
	variable string
	preset   string // the default, as a user would write it
	value    string // what kind of value the flag takes, for its help; isSwitch if the flag alone means true
	repeats  bool   // the flag can be given again, for one more line of the value
	secret   bool   // the value is a secret: it is never printed, and no other program gets it
	hidden   bool   // the value may be a secret in the wrong place: it is never printed
	unlisted bool   // the command's help does not have it
	topic    topic
	values   string // those that completion offers, with spaces between
	help     string
}

// isSwitch is pflag's word for a flag that needs no value.
const isSwitch = "bool"

// name is the setting's environment variable.
func (d definition) name() string {
	if d.variable != "" {
		return d.variable
	}
	return Prefix + strings.ToUpper(strings.ReplaceAll(d.flag, "-", "_"))
}

// A setting is a definition with the parser of its values.
type setting[T any] struct {
	definition
	parse func(string) (T, error)
}

func define[T any](parse func(string) (T, error), d definition) setting[T] {
	return setting[T]{d, parse}
}

// into is the field that puts the setting's value at to.
func (s setting[T]) into(to *T) field {
	return field{s.definition, func(written string) (err error) {
		*to, err = s.parse(written)
		return err
	}}
}

// A field is a setting of one command, with the place for its value.
type field struct {
	definition
	set func(written string) error
}

// described is the field with the help of one command.
func (f field) described(help string) field {
	f.help = help
	return f
}

// of is described, under another topic.
func (f field) of(t topic, help string) field {
	f.topic = t
	return f.described(help)
}

func (f field) load(flags *pflag.FlagSet, env environment) error {
	if f.flag != "" {
		if given := flags.Lookup(f.flag); given.Changed {
			return f.apply("--"+f.flag, given.Value.String())
		}
	}
	if value, ok := env[f.name()]; ok {
		return f.applyVariable(value)
	}
	if f.preset == "" {
		return nil
	}
	return f.apply("--"+f.flag, f.preset)
}

// longestPrinted bounds a value that an error repeats. A longer one may be a key in the wrong variable.
const longestPrinted = 256

// applyVariable also takes a value without the spaces, quotes and carriage returns around it: Docker and ECS do not take
// them off the values of an env file.
func (f field) applyVariable(value string) error {
	err := f.apply(f.name(), value)
	if bare := unquoted(value); err == nil || bare == value || f.set(bare) != nil {
		return err
	}
	return nil
}

// unquoted is a value without one pair of quotes, and without spaces outside of them.
func unquoted(value string) string {
	value = strings.TrimSpace(value)
	if n := len(value); n > 1 && value[0] == value[n-1] && strings.ContainsRune(quotes, rune(value[0])) {
		return value[1 : n-1]
	}
	return value
}

const quotes = `"'`

func (f field) apply(from, value string) error {
	err := f.set(value)
	if err == nil {
		return nil
	}
	if f.secret || f.hidden || strings.ContainsAny(value, "@?\n") || len(value) > longestPrinted { // an address may have a password
		return fmt.Errorf("%s: %w", from, err)
	}
	return fmt.Errorf("%s=%q: %w", from, value, err)
}
