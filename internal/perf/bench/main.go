// Command bench measures the sidecar beside what a user would pick instead, in one run, in turns, against one
// Parameter Store in this process: from the start to a key on disk, what it costs while it waits for the next
// refresh, and what the refreshes cost.
//
// It prints Markdown tables, as ratios where they are times: those of one machine mean nothing on another.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	rounds := flag.Int("rounds", 40, "starts of each program; of those that take seconds, a fifth")
	settle := flag.Duration("settle", time.Minute, "how long the sidecar runs before it counts as idle")
	window := flag.Duration("window", 4*time.Minute, "how long it is watched then")
	refreshes := flag.Int("refreshes", 10, "refreshes of each number of names")
	aws := flag.String("aws", "", "the AWS CLI, for its script; left out if empty")
	vals := flag.String("vals", "", "vals, likewise")
	write := flag.String("write", "", "Markdown file to write the tables into")
	flag.Parse()

	w, end, err := newFixture(ctx)
	if err != nil {
		return err
	}
	defer end()
	all := w.contestants(*aws, *vals)
	if err := w.race(ctx, all, *rounds); err != nil {
		return err
	}
	idle, err := w.idle(ctx, *settle, *window)
	if err != nil {
		return err
	}
	var polls []poll
	for _, names := range []int{1, 2, 10, 20} {
		p, err := w.poll(ctx, names, *refreshes)
		if err != nil {
			return err
		}
		polls = append(polls, p)
	}
	starts, err := startTable(all)
	if err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "`make bench`, %s, %d rounds.\n\n", doctable.Machine(), *rounds)
	out.WriteString(starts)
	out.WriteString("\n" + idle.table())
	out.WriteString("\n" + pollTable(polls))
	fmt.Print(out.String())
	if *write != "" {
		if err := doctable.Write(*write, "bench", out.String()); err != nil {
			return err
		}
	}
	for _, p := range polls {
		if p.decrypts > 0 {
			return errors.New("a refresh that found nothing new called KMS")
		}
	}
	return nil
}
