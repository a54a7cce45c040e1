package main

import (
	"fmt"
	"slices"
)

// A verdict is what a comparison comes to.
type verdict string

const (
	same        verdict = ""
	better      verdict = "better"
	worse       verdict = "WORSE"
	unrecorded  verdict = "NOT RECORDED" // measured, and not in the file
	gone        verdict = "GONE"         // in the file, and not measured any more
	notCompared verdict = "not compared" // why says what for
)

// A comparison is a figure then and now.
type comparison struct {
	before, now figure
	verdict     verdict
	why         string
}

// bad reports whether something has to be done.
func (c comparison) bad() bool {
	return c.verdict == worse || c.verdict == unrecorded || c.verdict == gone
}

// figure is the one that there is.
func (c comparison) figure() figure {
	if c.before.name != "" {
		return c.before
	}
	return c.now
}

func (c comparison) String() string {
	f := c.figure()
	before, now, change := fmt.Sprint(c.before.value), fmt.Sprint(c.now.value), c.change()
	if c.before.name == "" {
		before, change = "-", ""
	}
	if c.now.name == "" {
		now, change = "-", ""
	}
	line := fmt.Sprintf("%-12s %10s -> %10s %8s  %s", f.unit, before, now, change, f.name)
	if c.verdict != same {
		line += "  [" + string(c.verdict) + "]"
	}
	return line
}

// change is the difference in percent.
func (c comparison) change() string {
	if c.before.value == 0 {
		if c.now.value == 0 {
			return "0.0%"
		}
		return "from 0"
	}
	return fmt.Sprintf("%+.1f%%", 100*float64(c.now.value-c.before.value)/float64(c.before.value))
}

// problem says what is wrong and how to find out more.
func (c comparison) problem() string {
	f := c.figure()
	what := f.unit + " of " + f.name
	switch c.verdict {
	case unrecorded:
		return fmt.Sprintf("%s: %d, and %s has no such figure: run make regression-figures", what, c.now.value, figuresFile)
	case gone:
		return fmt.Sprintf("%s: was %d, and is not measured any more: bring it back, or run make regression-figures", what, c.before.value)
	default:
		return fmt.Sprintf("%s: %d before, %d now, %s; this shows where:\n      %s", what, c.before.value, c.now.value, c.change(), kindOf(f).show(f.name))
	}
}

// compare goes through everything that was recorded or is measured.
func compare(before figures, now []measured) []comparison {
	var all []comparison
	for _, m := range now {
		recorded := slices.DeleteFunc(slices.Clone(before.all), func(f figure) bool { return kindOf(f) != m.kind })
		for _, f := range recorded {
			c := comparison{before: f}
			c.now, _ = figures{all: m.figures}.find(f)
			c.verdict, c.why = judge(before, m, c)
			all = append(all, c)
		}
		for _, f := range m.figures {
			if _, known := before.find(f); !known {
				all = append(all, comparison{now: f, verdict: unrecorded})
			}
		}
	}
	return all
}

// judge compares a figure that was recorded. One in ten is the limit, and nothing is a tenth of nothing.
func judge(before figures, m measured, c comparison) (v verdict, why string) {
	switch then, now := c.before.value, c.now.value; {
	case m.cannot != nil:
		return notCompared, m.kind.name + ": " + m.cannot.Error()
	case c.now.name == "":
		return gone, ""
	case m.conditions != before.conditions:
		return notCompared, fmt.Sprintf("%s: measured with %s, recorded with %s, which makes a difference of its own; "+
			"for a new Go in go.mod, run make regression-figures in a commit that changes nothing else: its diff shows what the new Go costs",
			m.kind.name, m.conditions, before.conditions)
	case 10*now > 11*then:
		return worse, ""
	case 10*now < 9*then:
		return better, ""
	default:
		return same, ""
	}
}
