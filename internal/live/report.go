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

	"github.com/snowkey/snowkey/internal/benchtable"
)

// An inference is a statement of the documents, or of the local endpoints, for which there is no source: neither
// documentation nor a run against the real service.
type inference struct {
	name      string // by which steps find it
	statement string
	where     string // it stands
	step      string // that checks it; "" where none can
}

var inferences = []inference{
	{"open session", "A session that is open when its key is removed goes on, with every query on it", "rotation.md#a-leaked-key", "rotate into the other slot"},
	{"slots in SHOW USER KEY PAIRS", "`SHOW USER KEY PAIRS` does not list the keys in the two slots", "../internal/localsnowflake/keypairs.go", "rotate to a named key pair"},
	{"CURRENT_USER() of a quoted name", "`CURRENT_USER()` gives a name that needs quotes with them or without, and not otherwise", "configuration.md#account-host-user-and-role", "a name that needs quotes"},
	{"network policy", "Where a network policy lets nobody in, the SQL API answers with 403", "../internal/localsnowflake/faults.go", "a network policy"},
	{"SQL API disabled", "An account that may not use the SQL API gets 403 from it, with the text of other such endpoints", "../internal/localsnowflake/faults.go", ""},
	{"restricted key pair", "A key pair that is restricted to another role is refused as an invalid token", "../internal/localsnowflake/privileges.go", "a restricted key pair"},
	{"rotated with 0 hours", "A key pair that was rotated with 0 hours is not listed any more", "../internal/localsnowflake/keypairs.go", "a restricted key pair"},
	{"throttling", "SSM throttles with `ThrottlingException` and HTTP status 400", "operations.md#what-to-watch", "throttling"},
	{"kms:Decrypt for metadata", "Reading a parameter without decryption takes no `kms:Decrypt`", "configuration.md#naming-a-parameter", "names and tiers of parameters"},
	{"policies in the standard tier", "The standard tier refuses parameter policies", "../internal/localssm/parameters.go", "names and tiers of parameters"},
	{"long names", "A name longer than 1011 characters with its ARN is a ValidationException", "../internal/localssm/names.go", "names and tiers of parameters"},
	{"a volume on Fargate", "A volume that the image declares has the image's owner on Fargate", "first-task.md", "a Fargate task from the CloudFormation example"},
	{"sockets on Fargate", "A program in another container of a Fargate task connects to the sidecar's sockets", "configuration.md#sockets-no-key-on-a-disk", "a Fargate task from the CloudFormation example"},
	{"arm64", "The sidecar leaves one copy of the key in memory on a machine with arm64", "secret-hygiene.md", ""},
}

// link leads to it, by the file's name.
func (i inference) link() string {
	file, _, _ := strings.Cut(i.where, "#")
	return fmt.Sprintf("[%s](%s)", path.Base(file), i.where)
}

// A cost is an upper bound for one trial.
type cost struct {
	what string
	usd  float64
}

// List prices of us-east-1 in November 2026, for two hours.
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
	fmt.Fprintf(&out, "A trial of snowkey as %s, with the profile %s in %s and the connection %s.\n", t.name, t.settings.awsProfile, t.aws.region, t.settings.connection)
	fmt.Fprintf(&out, "It takes up to an hour, and creates and removes a KMS key, roles, parameters, a secret, two stacks, two repositories and a cluster\n"+
		"in AWS, and users, a role and a network policy in Snowflake. For some seconds SSM throttles every caller of the account's Region.\n\n")
	total := 0.0
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	for _, c := range costs {
		fmt.Fprintf(table, "  at most $%.2f\t%s\n", c.usd, c.what)
		total += c.usd
	}
	_ = table.Flush()
	fmt.Fprintf(&out, "  at most $%.2f\tin all, at the list prices of us-east-1 of November 2026\n", total)
	for _, left := range leftovers() {
		fmt.Fprintf(&out, "\nAn earlier trial has left something: go run ./internal/live -remove %s\n", left)
	}
	if who := t.standIns(); who != "" {
		fmt.Fprintf(&out, "\nIn the place of %s there is something else: this shows that the trial works, and nothing about the real ones.\n", who)
	}
	return out.String()
}

// overview is what stands at the end on the terminal.
func overview(results []result, findings map[string]finding) string {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table)
	for _, r := range results {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", r.step.name, r.took.Round(time.Second), r.text())
	}
	fmt.Fprintln(table)
	for _, i := range inferences {
		fmt.Fprintf(table, "  %s\t%s\n", i.statement, i.text(findings))
	}
	_ = table.Flush()
	return out.String()
}

// text is what a trial has seen of it.
func (i inference) text(findings map[string]finding) string {
	f, ok := findings[i.name]
	switch {
	case !ok:
		return "not checked"
	case f.asStated:
		return "as stated: " + f.seen
	}
	return "differs: " + f.seen
}

// write puts a trial into its place in the document: that of real accounts, or that of what stands in for them.
func write(document string, t *trial, results []result) error {
	if t.standIns() != "" {
		return benchtable.Write(document, "a trial of stand-ins", t.table(results))
	}
	return errors.Join(benchtable.Write(document, "a trial of real accounts", t.table(results)),
		benchtable.Write(document, "statements", t.clean().Replace(statements(t.findings))))
}

// table has no name of an account, a user or a folder.
func (t *trial) table(results []result) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, revision %s, %s/%s, %s, gosnowflake %s, Snowflake %s, Region %s.\n\n", time.Now().UTC().Format(time.DateOnly), revision(),
		runtime.GOOS, runtime.GOARCH, t.aws.version, gosnowflake.SnowflakeGoDriverVersion, t.serverVersion, t.aws.region)
	out.WriteString("| step | result |\n| --- | --- |\n")
	for _, r := range results {
		fmt.Fprintf(&out, "| %s | %s |\n", r.step.name, strings.ReplaceAll(strings.ReplaceAll(r.text(), "|", `\|`), "\n", " "))
	}
	return t.clean().Replace(out.String())
}

// clean takes out what is only this trial's.
func (t *trial) clean() *strings.Replacer {
	var pairs []string
	for _, pair := range [][2]string{
		{t.accountID, "ACCOUNT"}, {t.snowflake.Account, "ACCOUNT"}, {t.dir, "DIR"}, {t.name, "NAME"}, {t.object(), "NAME"}, {strings.ToLower(t.object()), "NAME"},
	} {
		if pair[0] != "" {
			pairs = append(pairs, pair[0], pair[1])
		}
	}
	return strings.NewReplacer(pairs...)
}

// statements are the inferences, and what a trial of real accounts has seen of each. Without a trial the findings are nil.
func statements(findings map[string]finding) string {
	var out strings.Builder
	out.WriteString("| statement | where | step that checks it | seen |\n| --- | --- | --- | --- |\n")
	for _, i := range inferences {
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", i.statement, i.link(), cmp.Or(i.step, "none can"),
			strings.ReplaceAll(strings.ReplaceAll(i.text(findings), "|", `\|`), "\n", " "))
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
