// Package config reads the settings of each command into a type of its own: a flag, then its environment variable, then
// the default. Each setting is defined once, in settings.go; flags, variables, help, the tables in the documentation
// and what is secret all come from there. A command takes the settings that the fields of its type list.
//
// It never falls back to a default because a value is invalid, never ignores a SNOWKEY_ variable that it does not know,
// and never takes a secret from a flag.
package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Prefix of the variables that belong to flags.
const Prefix = "SNOWKEY_"

// A Config is the settings of one command: a pointer to one of this package's types.
type Config interface {
	// fields are the command's settings, each with the place that its value goes to.
	fields() []field
	// validate fills in what follows from other settings, and reports settings that contradict each other.
	validate() []error
}

// AddFlags defines the flags that the command takes.
func AddFlags(flags *pflag.FlagSet, c Config) {
	for _, f := range c.fields() {
		if f.flag == "" {
			continue
		}
		v := flags.VarPF(&text{written: f.preset, kind: f.value, repeats: f.repeats}, f.flag, "", f.help)
		if f.value == isSwitch {
			v.NoOptDefVal = "true"
		}
	}
}

// text is a flag's value as the user wrote it. Load parses it later, so that all errors come together. A flag that repeats
// has a line for each time.
type text struct {
	written, kind string
	repeats       bool
}

func (t *text) String() string { return t.written }
func (t *text) Type() string   { return t.kind }

func (t *text) Set(s string) error {
	if t.repeats && t.written != "" {
		s = t.written + "\n" + s
	}
	t.written = s
	return nil
}

// A UsageError is a mistake in flags, arguments or the environment.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the mistake.
func (e UsageError) Unwrap() error { return e.Err }

// Load reads the settings into c, from flags that AddFlags has defined for it and from the environment. One [UsageError]
// reports everything that is wrong.
func Load(c Config, flags *pflag.FlagSet, environ []string) error {
	env := newEnvironment(environ)
	problems := env.unknown()
	for _, f := range c.fields() {
		if err := f.load(flags, env); err != nil {
			problems = append(problems, err)
		}
	}
	if problems = append(problems, c.validate()...); len(problems) > 0 {
		return UsageError{join(problems)}
	}
	return nil
}

func join(problems []error) error {
	if len(problems) == 1 {
		return problems[0]
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = "\n  - " + p.Error()
	}
	return fmt.Errorf("%d settings are wrong:%s", len(problems), strings.Join(lines, ""))
}
