package rotate

import (
	"slices"
	"strings"
	"testing"
)

// A dryRun has the statements that a dry run prints, as far as the names of calls go.
type dryRun struct {
	t          *testing.T
	what       string
	statements []string
}

// dryRun makes a dry run with the settings of p, and checks that it changes nothing.
func (f *fixture) dryRun(what string, p *process) dryRun {
	f.t.Helper()
	dry := f.process()
	dry.KeyPair, dry.Finish, dry.DryRun = p.KeyPair, p.Finish, true
	result := dry.must(what+", dry run", DryRun)
	for _, c := range dry.calls {
		if strings.HasPrefix(c.what, "PutParameter") || strings.HasPrefix(c.what, "DeleteParameter") || strings.HasPrefix(c.what, "ALTER") {
			f.t.Errorf("%s: a dry run made the call %s", what, c.what)
		}
	}
	d := dryRun{t: f.t, what: what}
	for _, s := range result.Statements {
		said, _, _ := strings.Cut(s, "='")
		d.statements = append(d.statements, said)
	}
	return d
}

// matches checks that p ran the statements of the dry run.
func (d dryRun) matches(p *process) {
	d.t.Helper()
	var ran []string
	for _, c := range p.calls {
		if strings.HasPrefix(c.what, "ALTER") {
			ran = append(ran, c.what)
		}
	}
	if !slices.Equal(ran, d.statements) {
		d.t.Errorf("%s: it ran %q, and a dry run said %q", d.what, ran, d.statements)
	}
}
