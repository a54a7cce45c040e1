package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A figure is one thing that was counted. Less is better.
type figure struct {
	value int64
	unit  string
	name  string
}

func (f figure) String() string { return fmt.Sprintf("%10d %-12s %s", f.value, f.unit, f.name) }

func (f figure) order(g figure) int {
	return cmp.Or(cmp.Compare(f.name, g.name), cmp.Compare(f.unit, g.unit))
}

// is reports whether both count the same thing.
func (f figure) is(g figure) bool { return f.order(g) == 0 }

// figures are those of a release.
type figures struct {
	conditions string // under which they can be compared: Go without its patch level, and the platform
	all        []figure
}

const heading = `# What the programs cost at the last release. make regression fails when a figure is more than a tenth
# worse; make regression-figures writes this file. CONTRIBUTING.md says when.
`

func (f figures) String() string {
	var b strings.Builder
	b.WriteString(heading)
	b.WriteString(f.conditions + "\n")
	for _, g := range f.all {
		b.WriteString(g.String() + "\n")
	}
	return b.String()
}

func read(path string) (figures, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return figures{}, err
	}
	f, err := parse(string(text))
	if err != nil {
		return f, fmt.Errorf("%s: %w; make regression-figures writes it anew", path, err)
	}
	return f, nil
}

func parse(text string) (f figures, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if f.conditions == "" {
			f.conditions = line
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return f, fmt.Errorf("%q is not a number, a unit and a name", line)
		}
		value, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return f, fmt.Errorf("%q: %w", line, err)
		}
		g := figure{value: value, unit: fields[1], name: strings.Join(fields[2:], " ")}
		if _, twice := f.find(g); twice {
			return f, fmt.Errorf("%s of %s is there twice", g.unit, g.name)
		}
		if kindOf(g) == nil {
			return f, fmt.Errorf("%q: nothing is measured in %s", line, g.unit)
		}
		f.all = append(f.all, g)
	}
	if len(f.all) == 0 {
		return f, fmt.Errorf("no figures")
	}
	return f, nil
}

func (f figures) find(g figure) (figure, bool) {
	for _, h := range f.all {
		if h.is(g) {
			return h, true
		}
	}
	return figure{}, false
}

// A kind of figures is what one way of measuring gives.
type kind struct {
	name    string
	units   []string
	measure func(context.Context, programs) (measured, error) // the error may be a cannotError
	show    func(name string) string                          // the command that shows what it is
}

// measured is what a kind has come to here.
type measured struct {
	kind       *kind
	conditions string
	figures    []figure
	cannot     error // why there are none
}

// A cannotError is why this machine cannot measure something, and what to do.
type cannotError struct{ error }

func (e cannotError) Unwrap() error { return e.error }
