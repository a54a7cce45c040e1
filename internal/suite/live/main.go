// Command live tries snowkey with a real AWS account and a real Snowflake account: it makes keys, publishes them, rotates
// them under load, throttles, and runs a task on Fargate. It writes what it saw into docs/live.md, above all about each
// assumption of the documents that no documentation of AWS or Snowflake confirms.
//
// docs/live.md says what it creates, costs and removes. It never changes anything that it has not created.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// A trial that takes longer hangs. Cleaning up has a limit of its own.
const (
	trialTimeout   = 90 * time.Minute
	cleanupTimeout = 45 * time.Minute
)

func main() {
	var o options
	flag.StringVar(&o.awsProfile, "aws-profile", os.Getenv("LIVE_AWS_PROFILE"), "profile of the AWS CLI, of an administrator; LIVE_AWS_PROFILE")
	flag.StringVar(&o.connection, "snowflake-connection", os.Getenv("LIVE_SNOWFLAKE_CONNECTION"),
		"name in Snowflake's connections.toml, of a user that may create users and roles; LIVE_SNOWFLAKE_CONNECTION")
	flag.BoolVar(&o.yes, "yes", os.Getenv("LIVE_YES") == "1", "do not ask before anything is created; LIVE_YES=1")
	flag.StringVar(&o.document, "write", "", "the document to write the result into, docs/live.md")
	flag.StringVar(&o.remove, "remove", "", "only remove what an interrupted trial has left; the path is the one that it printed")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		os.Exit(1)
	}
}

type options struct {
	awsProfile, connection string
	yes                    bool
	document, remove       string
}

func run(o options) error {
	signal.Ignore(syscall.SIGPIPE) // the reader of the output may end at Ctrl-C, too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if o.remove != "" {
		return removeUnfinished(ctx, o.remove)
	}
	if o.awsProfile == "" || o.connection == "" {
		return errors.New("name a profile of the AWS CLI and a connection of connections.toml: " +
			"make test-live LIVE_AWS_PROFILE=... LIVE_SNOWFLAKE_CONNECTION=...")
	}
	t, err := newTrial(ctx, o)
	if err != nil {
		return err
	}
	fmt.Print(t.announcement())
	if !o.yes && !confirmed(ctx) {
		return errors.Join(errors.New("nothing was created; type yes, or set LIVE_YES=1"), t.cleanUp(ctx, false), t.close())
	}
	results := t.runSteps(ctx, steps)
	interrupted := ctx.Err() != nil
	all := []error{failures(results), context.Cause(ctx), t.cleanUp(ctx, interrupted || failures(results) != nil), t.close()}
	fmt.Print(t.overview(results))
	if o.document != "" && !interrupted {
		all = append(all, write(o.document, t, results))
	}
	return errors.Join(all...)
}

// confirmed asks on the terminal. Without one the answer is no.
func confirmed(ctx context.Context) bool {
	fmt.Print("\nType \"yes\" to continue: ")
	answers := make(chan string, 1)
	go func() { // it ends with the program
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answers <- answer
	}()
	select {
	case <-ctx.Done():
		return false
	case answer := <-answers:
		return strings.TrimSpace(answer) == "yes"
	}
}
