// Command regression compares what the programs cost with what they cost at the last release, which is in
// figures.txt: what they weigh, what they and their paths allocate, and how many instructions whole runs
// take. It fails when a figure is more than a tenth worse.
//
// It never measures a time: that of one machine means nothing on another, and little on the same one later.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// figuresFile is seen from the repository's root, where this is run.
const figuresFile = "internal/perf/regression/figures.txt"

// within bounds everything, on a machine that has to build all of it first.
const within = 10 * time.Minute

func main() {
	update := flag.Bool("update", false, "write the figures instead of comparing with them")
	flag.Parse()
	if err := run(os.Stdout, *update); err != nil {
		fmt.Fprintln(os.Stderr, "regression:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, update bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	before, err := read(figuresFile)
	if err != nil && !update { // what cannot be read is written anew
		return err
	}
	now, err := measure(ctx)
	if err != nil {
		return err
	}
	if update {
		renewed, err := renew(before, now)
		if err != nil {
			return err
		}
		if err := os.WriteFile(figuresFile, []byte(renewed.String()), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: look at its diff, and say in the commit what is gained for what got worse\n", figuresFile)
		return nil
	}
	return report(out, compare(before, now), os.Getenv("REQUIRE_EVERY_FIGURE") != "")
}

// noise is the share, one in so many, by which a figure may differ without anybody's doing: keys and hash
// seeds are random, and whether a connection is free again in time for the next call is, too.
const noise = 25

// renew gives the figures to keep from now on. All of them are of one Go, or none. What differs by no more
// than noise stays as it was, so that the diff shows what has changed.
func renew(before figures, now []measured) (figures, error) {
	f := figures{conditions: now[0].conditions}
	for _, m := range now {
		if m.cannot != nil {
			return f, fmt.Errorf("%s cannot be measured here, and the figures are kept together: %w", m.kind.name, m.cannot)
		}
		if m.conditions != f.conditions {
			return f, fmt.Errorf("%s was measured with %s and %s with %s: measure on linux/amd64", now[0].kind.name, f.conditions, m.kind.name, m.conditions)
		}
		for _, g := range m.figures {
			then, known := before.find(g)
			if known && before.conditions == f.conditions && max(g.value-then.value, then.value-g.value)*noise <= then.value {
				g = then
			}
			f.all = append(f.all, g)
		}
	}
	return f, nil
}

// report prints every comparison, and the error is what has to be done about them.
func report(out io.Writer, all []comparison, requireEvery bool) error {
	count := map[verdict]int{}
	for _, c := range all {
		count[c.verdict]++
		fmt.Fprintln(out, c)
	}
	fmt.Fprintf(out, "%d figures: %d as they were, %d better, %d worse, %d not compared\n",
		len(all), count[same], count[better], count[worse]+count[unrecorded]+count[gone], count[notCompared])
	if count[better] > 0 {
		fmt.Fprintf(out, "%d are more than a tenth better: keep that with make regression-figures, or it may be lost again unnoticed\n", count[better])
	}
	told := map[string]bool{}
	var problems []string
	for _, c := range all {
		if c.verdict == notCompared && !told[c.why] {
			told[c.why] = true
			fmt.Fprintln(out, "NOT COMPARED:", c.why)
		}
		if c.bad() {
			problems = append(problems, "\n  - "+c.problem())
		}
	}
	if requireEvery && count[notCompared] > 0 {
		problems = append(problems, fmt.Sprintf("\n  - %d figures were not compared, and REQUIRE_EVERY_FIGURE is set", count[notCompared]))
	}
	if problems == nil {
		return nil
	}
	if count[worse] > 0 {
		problems = append(problems, "\nUndo the loss; if the change is worth it, run make regression-figures and say so in its commit")
	}
	return errors.New(strings.Join(problems, ""))
}

// measure takes every kind of figure.
func measure(ctx context.Context) ([]measured, error) {
	dir, err := os.MkdirTemp("", "regression-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	programs, err := build(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []measured
	for _, k := range kinds {
		m, err := k.measure(ctx, programs)
		if cannot, ok := errors.AsType[cannotError](err); ok {
			m.cannot = cannot
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		m.kind = k
		slices.SortFunc(m.figures, figure.order)
		all = append(all, m)
	}
	return all, nil
}
