// Command live tries snowkey with a real AWS account and a real Snowflake account: it makes keys, publishes them, rotates
// them under load, throttles, and runs a task on Fargate. It writes what it saw into docs/live.md, above all about each
// statement of the documents that rests on inference.
//
// It creates everything under a random name and removes all of it at its end, also after a failure or Ctrl-C. After a
// SIGKILL, -remove does it.
//
// It never changes anything that it has not created. It is felt by others in two places: for a few seconds it uses up what
// SSM allows the account's Region, and Fargate starts one task.
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

// A trial that takes longer hangs. Removing what it created has as long again.
const (
	trialTimeout   = 90 * time.Minute
	removalTimeout = 45 * time.Minute
)

func main() {
	var s settings
	flag.StringVar(&s.awsProfile, "aws-profile", os.Getenv("LIVE_AWS_PROFILE"), "profile of the AWS CLI, of an administrator; LIVE_AWS_PROFILE")
	flag.StringVar(&s.connection, "snowflake-connection", os.Getenv("LIVE_SNOWFLAKE_CONNECTION"),
		"name in Snowflake's connections.toml, of a user that may create users and roles; LIVE_SNOWFLAKE_CONNECTION")
	flag.BoolVar(&s.yes, "yes", os.Getenv("LIVE_YES") == "1", "do not ask before anything is created; LIVE_YES=1")
	flag.StringVar(&s.document, "write", "", "the document to write the result into, docs/live.md")
	flag.StringVar(&s.remove, "remove", "", "create nothing: remove what a killed trial has left, by the file that it names")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		os.Exit(1)
	}
}

type settings struct {
	awsProfile, connection string
	yes                    bool
	document, remove       string
}

func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if s.remove != "" {
		return removeLeftovers(ctx, s.remove)
	}
	if s.awsProfile == "" || s.connection == "" {
		return errors.New("name a profile of the AWS CLI and a connection of connections.toml: " +
			"make test-live LIVE_AWS_PROFILE=... LIVE_SNOWFLAKE_CONNECTION=...")
	}
	t, err := newTrial(ctx, s)
	if err != nil {
		return err
	}
	defer t.close()
	fmt.Print(t.announcement())
	if !s.yes && !confirmed() {
		return errors.New("nothing was created; answer yes, or set LIVE_YES=1")
	}
	results := t.try(ctx, steps)
	removed := t.removeAll()
	fmt.Print(overview(results, t.findings))
	if s.document != "" {
		if err := write(s.document, t, results); err != nil {
			return errors.Join(err, removed)
		}
	}
	return errors.Join(failures(results), context.Cause(ctx), removed)
}

// confirmed asks on the terminal. Elsewhere nobody answers, which is a no.
func confirmed() bool {
	fmt.Print("\nGo on? Only yes is a yes: ")
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}
