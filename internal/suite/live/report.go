package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/doctable"
)

// An assumption is a statement of the documents, or of the local endpoints, that neither documentation of AWS or
// Snowflake nor a run against the real service confirms.
type assumption struct {
	name      string // by which steps observe it
	statement string
	where     string // it stands
	step      string // that checks it; "" if none does
}

var assumptions = []assumption{
	{"open session", "A session that is open when its key is removed goes on, with every query on it", "leaked-key.md#revoke-at-once", "rotate into the other slot"},
	{"slots in SHOW USER KEY PAIRS", "`SHOW USER KEY PAIRS` does not list the keys in the two slots", "../internal/local/localsnowflake/keypairs.go", "rotate to a named key pair"},
	{"CURRENT_USER() of a quoted name", "`CURRENT_USER()` gives a name that needs quotes with them or without, and not otherwise", "configuration.md#account-host-user-and-role", "a name that needs quotes"},
	{"network policy", "Where a network policy lets nobody in, the SQL API answers with 403", "../internal/local/localsnowflake/faults.go", "a network policy"},
	{"SQL API disabled", "An account that may not use the SQL API gets 403 from it, with the text of other such endpoints", "../internal/local/localsnowflake/faults.go", ""},
	{"restricted key pair", "A key pair that is restricted to another role is refused as an invalid token", "../internal/local/localsnowflake/privileges.go", "a restricted key pair"},
	{"rotated with 0 hours", "`SHOW USER KEY PAIRS` lists a key pair that was rotated with 0 hours, as DISABLED", "../internal/local/localsnowflake/keypairs.go", "a restricted key pair"},
	{"limit of key pairs", "The keys in the two slots do not count towards the limit of ten key pairs", "../internal/local/localsnowflake/keypairs.go", ""},
	{"default of 24 hours", "The 24 hours that a rotated key pair has by default are cut to what is left of its own expiry", "../internal/local/localsnowflake/keypairs.go", ""},
	{"words of key pair errors", "The words of errors about key pairs", "../internal/local/localsnowflake/keypairs.go", ""},
	{"bucket", "SSM takes a burst of 40 calls beyond its rate", "performance.md#fleets", ""},
	{"default role", "A login is refused if the user's DEFAULT_ROLE is not granted", "../internal/local/localsnowflake/privileges.go", "a name that needs quotes"},
	{"long identifier", "An identifier of more than 255 characters is a syntax error", "../internal/local/localsnowflake/lexer.go", "a name that needs quotes"},
	{"throttling", "SSM throttles with `ThrottlingException` and HTTP status 400", "operations.md#what-to-watch", "throttling"},
	{"kms:Decrypt for metadata", "Reading a parameter without decryption takes no `kms:Decrypt`", "configuration.md#naming-a-parameter", "metadata without decryption"},
	{"policies in the standard tier", "The standard tier refuses parameter policies", "../internal/local/localssm/parameters.go", "names and tiers of parameters"},
	{"long names", "A name longer than 1011 characters with its ARN is a ValidationException", "../internal/local/localssm/names.go", "names and tiers of parameters"},
	{"a volume on Fargate", "A volume that the image declares has the image's owner on Fargate", "first-task.md", "a Fargate task from the CloudFormation example"},
	{"sockets on Fargate", "A program in another container of a Fargate task connects to the sidecar's sockets", "configuration.md#sockets-no-key-on-a-disk", "a Fargate task from the CloudFormation example"},
	{"arm64", "The sidecar leaves one copy of the key in memory on a machine with arm64", "secret-hygiene.md", ""},
}

// link leads to where it stands.
func (a assumption) link() string {
	file, _, _ := strings.Cut(a.where, "#")
	return fmt.Sprintf("[%s](%s)", path.Base(file), a.where)
}

// A cost is an upper bound for one trial.
type cost struct {
	what string
	usd  float64
}

// prices says which Region and month the prices are of.
const prices = "the list prices of us-east-1 of November 2026"

var costs = []cost{
	{"two KMS keys, $1 a month each until their deletion is scheduled, and some hundred requests", 0.01},
	{"one secret, $0.40 a month, for less than an hour", 0.01},
	{"parameters of the standard tier, and calls of standard throughput", 0},
	{"a Fargate task of 0.25 vCPU and 0.5 GB with a public address, about half an hour", 0.02},
	{"two images of some 15 MB in ECR, three alarms, some 15 metrics and a few lines of log, for less than an hour", 0.03},
	{"Snowflake: no warehouse runs; statements about users and versions are cloud services", 0},
}

// announcement says what is about to happen, and what it costs.
func (t *trial) announcement() string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "A trial of snowkey as %s, with the profile %s in %s and the connection %s.\n", t.name, t.awsProfile, t.aws.region, t.connection)
	fmt.Fprintf(&out, "It takes %s at most. docs/live.md says what it creates and removes, and whom it affects.\n\n", trialTimeout)
	total := 0.0
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	for _, c := range costs {
		fmt.Fprintf(table, "  at most $%.2f\t%s\n", c.usd, c.what)
		total += c.usd
	}
	_ = table.Flush()
	fmt.Fprintf(&out, "  at most $%.2f\tin all, at %s\n", total, prices)
	for _, left := range unfinished() {
		fmt.Fprintf(&out, "\nAn earlier trial has left something: go run ./internal/suite/live -remove %s\n", left)
	}
	if which := t.emulated(); which != "" {
		fmt.Fprintf(&out, "\nThis is an emulator of %s: it shows that the trial works, and nothing about the real services.\n", which)
	}
	return out.String()
}

// overview is printed at the end.
func (t *trial) overview(results []result) string {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table)
	for _, r := range results {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", r.step.name, r.took.Round(time.Second), r.text())
	}
	fmt.Fprintln(table)
	for _, a := range assumptions {
		if t.emulated() == "" {
			fmt.Fprintf(table, "  %s\t%s\n", a.statement, a.text(t.observations))
		}
	}
	_ = table.Flush()
	return out.String()
}

// text describes what a trial has observed.
func (a assumption) text(observations map[string]observation) string {
	o, ok := observations[a.name]
	switch {
	case !ok:
		return "not checked"
	case o.confirmed:
		return "confirmed: " + o.seen
	}
	return "refuted: " + o.seen
}

// write puts a trial into its place in the document: that of real accounts, or that of emulators.
func write(document string, t *trial, results []result) error {
	if t.emulated() != "" {
		return doctable.Write(document, "a trial of emulators", t.table(results))
	}
	return errors.Join(doctable.Write(document, "a trial of real accounts", t.table(results)),
		doctable.Write(document, "assumptions", assumptionTable(t.observations)))
}

// table has no text of an error, which may name an account or a person.
func (t *trial) table(results []result) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, revision %s, %s/%s, %s, gosnowflake %s, Snowflake %s, Region %s.\n\n", time.Now().UTC().Format(time.DateOnly), revision(),
		runtime.GOOS, runtime.GOARCH, t.aws.version, gosnowflake.SnowflakeGoDriverVersion, t.serverVersion, t.aws.region)
	out.WriteString("| step | result |\n| --- | --- |\n")
	for _, r := range results {
		fmt.Fprintf(&out, "| %s | %s |\n", r.step.name, r.short())
	}
	return out.String()
}

// assumptionTable is for the document. Without a trial of real accounts the observations are nil.
func assumptionTable(observations map[string]observation) string {
	var out strings.Builder
	out.WriteString("| assumption | where | checked by | result |\n| --- | --- | --- | --- |\n")
	for _, a := range assumptions {
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", a.statement, a.link(), cmp.Or(a.step, "no step"), a.text(observations))
	}
	return out.String()
}

// revision is the commit that was tried.
func revision() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
