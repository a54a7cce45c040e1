package rotate

import (
	"slices"
	"strings"
	"testing"
)

// A rehearsal is what a dry run says: what a run after it runs, as far as calls name it.
type rehearsal struct {
	t          *testing.T
	what       string
	statements []string
}

// rehearsed runs a process like p, which may change nothing.
func (w *world) rehearsed(what string, p *process) rehearsal {
	w.t.Helper()
	dry := w.process()
	dry.KeyPair, dry.Finish, dry.DryRun = p.KeyPair, p.Finish, true
	result := dry.must(what+", rehearsed", DryRun)
	for _, c := range dry.calls {
		if strings.HasPrefix(c.what, "PutParameter") || strings.HasPrefix(c.what, "DeleteParameter") || strings.HasPrefix(c.what, "ALTER") {
			w.t.Errorf("%s: a dry run made the call %s", what, c.what)
		}
	}
	r := rehearsal{t: w.t, what: what}
	for _, s := range result.Statements {
		said, _, _ := strings.Cut(s, "='")
		r.statements = append(r.statements, said)
	}
	return r
}

// is what the process ran.
func (r rehearsal) is(p *process) {
	r.t.Helper()
	var ran []string
	for _, c := range p.calls {
		if strings.HasPrefix(c.what, "ALTER") {
			ran = append(ran, c.what)
		}
	}
	if !slices.Equal(ran, r.statements) {
		r.t.Errorf("%s: it ran %q, and a dry run said %q", r.what, ran, r.statements)
	}
}
