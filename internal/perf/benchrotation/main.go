// Command benchrotation measures what a rotation does to queries: with a pool of shared/snowkey, and
// with the plain driver whose key is swapped when the file changes. Both talk to a local Snowflake in
// this process, over HTTP and with the unmodified driver.
//
// It prints a Markdown table of ratios: the times of one machine mean nothing on another.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchrotation:", err)
		os.Exit(1)
	}
}

// A setup is one row's circumstances.
type setup struct {
	workers int
	login   time.Duration
	query   time.Duration
	phase   time.Duration // before, during and after each take as long, unless the scenario lasts longer
}

func run() error {
	workers := flag.String("workers", "8,64", "numbers of workers")
	logins := flag.String("login", "50ms,500ms,2s", "login latencies")
	query := flag.Duration("query", 5*time.Millisecond, "query latency")
	phase := flag.Duration("phase", 3*time.Second, "length of each phase: before, during, after")
	only := flag.String("scenarios", "", "part of the names of the scenarios to run; all if empty")
	write := flag.String("write", "", "Markdown file to write the table into")
	flag.Parse()
	// There is no cloud here to detect.
	if err := os.Setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true"); err != nil {
		return err
	}
	silenceDriver()

	setups, err := setups(*workers, *logins, *query, *phase)
	if err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "`go run ./internal/perf/benchrotation %s`, %s.\n\n", strings.Join(os.Args[1:], " "), doctable.Machine())
	out.WriteString(header)
	failed := false
	for _, sc := range scenarios {
		if !strings.Contains(sc.name, *only) {
			continue
		}
		for _, s := range setups {
			fmt.Fprintf(os.Stderr, "%s, %d workers, login %v\n", sc.name, s.workers, s.login)
			ours, err := measure(s, sc, ourPool)
			if err != nil {
				return err
			}
			plain, err := measure(s, sc, plainPool)
			if err != nil {
				return err
			}
			out.WriteString(row(sc.name, s, ours, plain))
			failed = failed || ours.failed() > 0
		}
	}
	fmt.Print(out.String())
	if *write != "" {
		if err := doctable.Write(*write, "bench-rotation", out.String()); err != nil {
			return err
		}
	}
	if failed {
		return errors.New("queries failed")
	}
	return nil
}

func setups(workers, logins string, query, phase time.Duration) ([]setup, error) {
	var all []setup
	for w := range strings.SplitSeq(workers, ",") {
		n, err := strconv.Atoi(w)
		if err != nil {
			return nil, fmt.Errorf("-workers: %w", err)
		}
		for l := range strings.SplitSeq(logins, ",") {
			d, err := time.ParseDuration(l)
			if err != nil {
				return nil, fmt.Errorf("-login: %w", err)
			}
			all = append(all, setup{workers: n, login: d, query: query, phase: phase})
		}
	}
	return all, nil
}
