package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/benchtable"
)

// inEmptyFolder has a ledger folder of its own, and no pause between attempts.
func inEmptyFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	pause := removalPause
	removalPause = time.Millisecond
	t.Cleanup(func() { removalPause = pause })
}

func TestLedger_RemovesTheLastThingFirstWhateverFails(t *testing.T) {
	inEmptyFolder(t)
	l, err := newLedger("snowkey-live-test", settings{awsProfile: "p", connection: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"first", "stuck", "gone", "slow", "last"} {
		if err := l.add(removal{What: what, SQL: "DROP " + what}); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	attempts := map[string]int{}
	err = l.removeAll(t.Context(), func(_ context.Context, r removal) error {
		attempts[r.What]++
		switch {
		case r.What == "stuck", r.What == "slow" && attempts["slow"] < removalAttempts:
			return errors.New("still in use")
		case r.What == "gone":
			return errors.New("An error occurred (ParameterNotFound)")
		}
		order = append(order, r.What)
		return nil
	})
	if !slices.Equal(order, []string{"last", "slow", "first"}) {
		t.Errorf("removed %v", order)
	}
	if attempts["stuck"] != removalAttempts || attempts["gone"] != 1 {
		t.Errorf("attempts: %v", attempts)
	}
	if err == nil || !strings.Contains(err.Error(), "stuck is still there: still in use") || !strings.Contains(err.Error(), "-remove "+l.path) {
		t.Errorf("error: %v", err)
	}

	// Another process goes on with what is left.
	if found := leftovers(); !slices.Equal(found, []string{l.path}) {
		t.Fatalf("leftovers: %v", found)
	}
	again, err := openLedger(l.path)
	if err != nil {
		t.Fatal(err)
	}
	if r := again.entries.Removals; len(r) != 1 || r[0].SQL != "DROP stuck" || again.entries.AWSProfile != "p" || again.entries.Connection != "c" {
		t.Errorf("left: %+v", again.entries)
	}
	if err := again.removeAll(t.Context(), func(context.Context, removal) error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ledger is still there: %v", err)
	}
}

func TestLedger_ListsAThingBeforeItExists(t *testing.T) {
	inEmptyFolder(t)
	l, err := newLedger("snowkey-live-test", settings{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.add(removal{What: "a key", AWS: [][]string{{"kms", "x"}}, Stack: "s"}); err != nil {
		t.Fatal(err)
	}
	on, err := openLedger(filepath.Join(ledgers, "snowkey-live-test.json"))
	if err != nil || len(on.entries.Removals) != 1 || on.entries.Removals[0].Stack != "s" || on.entries.Removals[0].AWS[0][0] != "kms" {
		t.Errorf("%+v, error %v", on, err)
	}
}

func TestTry_StepsWithoutTheirNeedsAreNotRun(t *testing.T) {
	tr := &trial{}
	ran := []string{}
	do := func(name string, err error) func(*trial, context.Context) error {
		return func(*trial, context.Context) error { ran = append(ran, name); return err }
	}
	results := tr.try(t.Context(), []step{
		{"a", nil, do("a", nil)},
		{"b", []string{"a"}, do("b", errors.New("broken"))},
		{"c", []string{"a", "b"}, do("c", nil)},
		{"d", nil, do("d", notRun("there is none"))},
	})
	if !slices.Equal(ran, []string{"a", "b", "d"}) {
		t.Errorf("ran %v", ran)
	}
	if err := failures(results); err == nil || err.Error() != "failed: b" {
		t.Errorf("failures: %v", err)
	}
	if text := results[2].text(); text != "not run: it needs the step b" {
		t.Errorf("c: %s", text)
	}
}

func TestTry_StopsAtTheEndOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	results := (&trial{}).try(ctx, []step{
		{"a", nil, func(*trial, context.Context) error { cancel(); return nil }},
		{"b", nil, func(*trial, context.Context) error { t.Error("it goes on"); return nil }},
	})
	if results[1].failed() || results[1].err == nil {
		t.Errorf("%+v", results[1])
	}
}

// Each step that finds something exists, each need is an earlier step, and names are used once.
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
	for _, i := range inferences {
		if i.step != "" && !slices.Contains(names, i.step) {
			t.Errorf("no step %s checks: %s", i.step, i.statement)
		}
	}
}

func TestTable_NameNoAccountAndNoFolder(t *testing.T) {
	tr := &trial{name: "snowkey-live-0a1b2c3d", dir: "/tmp/x", accountID: "123456789012", aws: &awsCLI{version: "aws-cli/2", region: "eu-west-1"},
		snowflake: connection{Account: "myorg-acct"}}
	text := tr.table([]result{{step: step{name: "one"}, err: fmt.Errorf("SNOWKEY_LIVE_0A1B2C3D in /tmp/x of myorg-acct\nand | 123456789012")}})
	for _, hidden := range []string{"0a1b2c3d", "0A1B2C3D", "123456789012", "myorg-acct", "/tmp/x"} {
		if strings.Contains(text, hidden) {
			t.Errorf("it has %s:\n%s", hidden, text)
		}
	}
	for _, wanted := range []string{"| one | failed: NAME in DIR of ACCOUNT and \\| ACCOUNT |"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("it lacks %s:\n%s", wanted, text)
		}
	}
}

func TestCredentials_DoNotPrint(t *testing.T) {
	c := credentials{"AKID", "hidden", "token"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, c); strings.Contains(text, "hidden") || strings.Contains(text, "token") {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

func TestWithoutSettings_KeepsHowToLogIn(t *testing.T) {
	got := withoutSettings([]string{"PATH=/bin", "AWS_REGION=x", "AWS_PROFILE=x", "AWS_CONFIG_FILE=/c", "SNOWKEY_DIR=/x", "AWS_ENDPOINT_URL_SSM=x", "AWS_ACCESS_KEY_ID=x"})
	if !slices.Equal(got, []string{"PATH=/bin", "AWS_CONFIG_FILE=/c"}) {
		t.Errorf("%v", got)
	}
}

// The list of statements is in the document before any trial has run, and a trial of stand-ins leaves it alone.
func TestDocument_ListsEveryStatement(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "live.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range inferences {
		if !strings.Contains(string(text), "| "+i.statement+" | "+i.link()+" |") {
			t.Errorf("it lacks: %s; go test ./internal/live -run Document -live.update writes the list", i.statement)
		}
	}
	if *updateStatements {
		if err := benchtable.Write(path, "statements", statements(nil)); err != nil {
			t.Fatal(err)
		}
	}
}

var updateStatements = flag.Bool("live.update", false, "write the list of statements into docs/live.md, none of them checked")

func TestStatements_SayWhatWasSeen(t *testing.T) {
	text := statements(map[string]finding{"throttling": {false, "a | b"}, "open session": {true, "ok"}})
	for _, wanted := range []string{"| throttling | differs: a \\| b |", "| rotate into the other slot | as stated: ok |", "| none can | not checked |"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("it lacks %s:\n%s", wanted, text)
		}
	}
}
