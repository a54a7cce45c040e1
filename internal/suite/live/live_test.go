package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/doctable"
	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// inEmptyDirectory has a ledger directory of its own, and no pause between attempts.
func inEmptyDirectory(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	pause := cleanupPause
	cleanupPause = time.Millisecond
	t.Cleanup(func() { cleanupPause = pause })
}

func TestCleanup_RunsInReverseAndContinuesAfterErrors(t *testing.T) {
	inEmptyDirectory(t)
	l, err := newCleanupList("snowkey-live-test", options{awsProfile: "p", connection: "c"}, place{Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"first", "stuck", "slow", "last"} {
		if err := l.add(cleanup{What: what, SQL: "DROP " + what}); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	attempts := map[string]int{}
	err = l.run(t.Context(), func(_ context.Context, r cleanup) error {
		attempts[r.What]++
		switch {
		case r.What == "stuck", r.What == "slow" && attempts["slow"] < cleanupAttempts:
			return errors.New("still in use")
		}
		order = append(order, r.What)
		return nil
	})
	if !slices.Equal(order, []string{"last", "slow", "first"}) {
		t.Errorf("removed %v", order)
	}
	if attempts["stuck"] != cleanupAttempts {
		t.Errorf("attempts: %v", attempts)
	}
	if err == nil || !strings.Contains(err.Error(), "stuck is still there: still in use") || !strings.Contains(err.Error(), "-remove "+l.path) {
		t.Errorf("error: %v", err)
	}

	// Another process goes on with what is left.
	if found := unfinished(); !slices.Equal(found, []string{l.path}) {
		t.Fatalf("unfinished: %v", found)
	}
	again, err := openCleanupList(l.path)
	if err != nil {
		t.Fatal(err)
	}
	if r := again.Cleanups; len(r) != 1 || r[0].SQL != "DROP stuck" || again.AWSProfile != "p" || again.Where.Region != "eu-west-1" || again.Connection != "c" {
		t.Errorf("left: %+v", again)
	}
	if err := again.run(t.Context(), func(context.Context, cleanup) error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ledger is still there: %v", err)
	}
}

func TestCleanup_IsSavedBeforeAddReturns(t *testing.T) {
	inEmptyDirectory(t)
	l, err := newCleanupList("snowkey-live-test", options{}, place{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.add(cleanup{What: "a key", AWS: [][]string{{"kms", "x"}}, Stack: "s"}); err != nil {
		t.Fatal(err)
	}
	on, err := openCleanupList(filepath.Join(cleanupDir, "snowkey-live-test.json"))
	if err != nil || len(on.Cleanups) != 1 || on.Cleanups[0].Stack != "s" || on.Cleanups[0].AWS[0][0] != "kms" {
		t.Errorf("%+v, error %v", on, err)
	}
}

func TestRunSteps_SkipsStepsWithFailedNeeds(t *testing.T) {
	tr := &trial{}
	ran := []string{}
	do := func(name string, err error) func(*trial, context.Context) error {
		return func(*trial, context.Context) error { ran = append(ran, name); return err }
	}
	results := tr.runSteps(t.Context(), []step{
		{"a", nil, do("a", nil)},
		{"b", []string{"a"}, do("b", errors.New("broken"))},
		{"c", []string{"a", "b"}, do("c", nil)},
		{"d", nil, do("d", skipped("there is none"))},
	})
	if !slices.Equal(ran, []string{"a", "b", "d"}) {
		t.Errorf("ran %v", ran)
	}
	if err := failures(results); err == nil || err.Error() != "failed: b" {
		t.Errorf("failures: %v", err)
	}
	if text := results[2].text(); text != "skipped: it needs the step b" {
		t.Errorf("c: %s", text)
	}
}

func TestRunSteps_StopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	results := (&trial{}).runSteps(ctx, []step{
		{"a", nil, func(*trial, context.Context) error { cancel(); return nil }},
		{"b", nil, func(*trial, context.Context) error { t.Error("it goes on"); return nil }},
	})
	if results[1].failed() || results[1].err == nil {
		t.Errorf("%+v", results[1])
	}
}

// Each need is an earlier step, each step that checks an assumption exists, and names are used once.
func TestSteps_AreInOrder(t *testing.T) {
	var names []string
	for _, s := range steps {
		for _, need := range s.needs {
			if !slices.Contains(names, need) {
				t.Errorf("%s needs %s, which is not before it", s.name, need)
			}
		}
		if slices.Contains(names, s.name) {
			t.Errorf("two steps are called %s", s.name)
		}
		names = append(names, s.name)
	}
	for _, i := range assumptions {
		if i.step != "" && !slices.Contains(names, i.step) {
			t.Errorf("no step %s checks: %s", i.step, i.statement)
		}
	}
}

// An error's text may name an account, a person or a directory.
func TestTable_HasCodesOfErrorsAndNoText(t *testing.T) {
	tr := &trial{aws: &awsCLI{version: "aws-cli/2", region: "eu-west-1"}, observations: map[string]observation{}}
	text := tr.table([]result{
		{step: step{name: "aws"}, err: errors.New("aws iam: exit status 254: An error occurred (AccessDenied) when calling the CreateRole operation: User jane")},
		{step: step{name: "snowflake"}, err: fmt.Errorf("login: %w", &gosnowflake.SnowflakeError{Number: 390144, Message: "jane"})},
		{step: step{name: "other"}, err: errors.New("open /home/jane: no such file")},
		{step: step{name: "none"}, err: skipped("there is no docker")},
	})
	if strings.Contains(text, "jane") {
		t.Errorf("it has a name:\n%s", text)
	}
	for _, wanted := range []string{"| aws | failed: AccessDenied |", "| snowflake | failed: 390144 |", "| other | failed: another error |", "| none | skipped: there is no docker |"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("it lacks %s:\n%s", wanted, text)
		}
	}
}

func TestObserve_NotAfterAnInterruption(t *testing.T) {
	tr := &trial{observations: map[string]observation{}}
	ctx, cancel := context.WithCancel(t.Context())
	tr.observe(ctx, "throttling", true, "before")
	cancel()
	tr.observe(ctx, "open session", false, "after")
	if len(tr.observations) != 1 || !tr.observations["throttling"].confirmed {
		t.Errorf("%+v", tr.observations)
	}
}

// fakeAWS is an AWS CLI that prints and says this.
func fakeAWS(t *testing.T, script string) *awsCLI {
	t.Helper()
	testenv.Slow(t)
	if runtime.GOOS == "windows" {
		t.Skip("the AWS CLI of this test is a shell script")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &awsCLI{profile: "p", region: "eu-west-1"}
}

func TestRemoveStack_OnlyCloudFormationSaysThatThereIsNone(t *testing.T) {
	for text, gone := range map[string]bool{
		"An error occurred (ValidationError) when calling the DescribeStacks operation: Stack with id x does not exist": true,
		"Error loading SSO Token: Token for my-sso does not exist":                                                      false,
		"An error occurred (ExpiredToken) when calling the DescribeStacks operation: it expired":                        false,
	} {
		tr := &trial{aws: fakeAWS(t, "echo '"+text+"' >&2; exit 254")}
		if err := tr.removeStack(t.Context(), "x"); (err == nil) != gone {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRemoveStack_EndsAnUpdateFirst(t *testing.T) {
	calls := filepath.Join(t.TempDir(), "calls")
	tr := &trial{aws: fakeAWS(t, `echo "$2" >>`+calls+`
case $2 in
describe-stacks) if grep -q cancel `+calls+`; then s=UPDATE_ROLLBACK_COMPLETE; else s=UPDATE_IN_PROGRESS; fi
	echo "{\"Stacks\": [{\"StackStatus\": \"$s\"}]}" ;;
esac`)}
	if err := tr.removeStack(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(text)); !slices.Equal(got, []string{"describe-stacks", "cancel-update-stack", "describe-stacks", "delete-stack", "wait"}) {
		t.Errorf("calls: %v", got)
	}
}

func TestErrors_AreToldApart(t *testing.T) {
	for text, want := range map[string][2]bool{ // in use, gone
		"An error occurred (ClusterContainsTasksException) when calling the DeleteCluster operation": {true, false},
		"An error occurred (NoSuchEntity) when calling the DeleteRole operation":                     {false, true},
		"An error occurred (ValidationException) when calling the DeleteParameters operation":        {false, true},
		"An error occurred (ValidationException) when calling the DeleteSecret operation":            {false, false},
		"a proxy said NoSuchEntity": {false, false},
	} {
		if err := errors.New(text); isInUse(err) != want[0] || isGone(err) != want[1] {
			t.Errorf("%s: in use %t, gone %t", text, isInUse(err), isGone(err))
		}
	}
}

func TestReadConnection_ErrorHasNoPassword(t *testing.T) {
	home := t.TempDir()
	const text = "[admin]\naccount = \"a\"\npassword = hunter2secret\n"
	if err := os.WriteFile(filepath.Join(home, "connections.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConnection(home, "admin"); err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("error: %v", err)
	}
}

// The assumptions are in the document before any trial has run.
func TestDocument_ListsEveryAssumption(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "live.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range assumptions {
		if !strings.Contains(string(text), "| "+i.statement+" | "+i.link()+" |") {
			t.Errorf("it lacks: %s; go test ./internal/suite/live -run Document -live.update writes them", i.statement)
		}
	}
	if *updateAssumptions {
		if err := doctable.Write(path, "assumptions", assumptionTable(nil)); err != nil {
			t.Fatal(err)
		}
	}
}

var updateAssumptions = flag.Bool("live.update", false, "write the assumptions into docs/live.md, none of them checked")

func TestAssumptionTable_ShowsObservations(t *testing.T) {
	text := assumptionTable(map[string]observation{"throttling": {false, "none"}, "open session": {true, "ok"}})
	for _, wanted := range []string{"| throttling | refuted: none |", "| rotate into the other slot | confirmed: ok |", "| no step | not checked |"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("it lacks %s:\n%s", wanted, text)
		}
	}
}
