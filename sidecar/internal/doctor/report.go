package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
)

// A Report has the results of all checks, in their order.
type Report struct {
	Failed   int      `json:"failed"`
	Warnings int      `json:"warnings"`
	Checks   []Result `json:"checks"`
}

// of names the key in every result.
func (r *Report) of(key string) *Report {
	for i := range r.Checks {
		r.Checks[i].Key = key
	}
	return r
}

func join(reports []*Report) *Report {
	all := new(Report)
	for _, r := range reports {
		all.Checks = append(all.Checks, r.Checks...)
		all.Failed += r.Failed
		all.Warnings += r.Warnings
	}
	return all
}

func (r *Report) count(state State) (n int) {
	for _, c := range r.Checks {
		if c.State == state {
			n++
		}
	}
	return n
}

// Text writes what is well or was skipped, then the problems with their fixes, then a summary. It is in colour on a terminal.
func (r *Report) Text(w io.Writer) error {
	paint := func(_ State, text string) string { return text }
	if logwriter.IsTerminal(w) && os.Getenv("NO_COLOR") == "" {
		paint = coloured
	}
	var b, problems strings.Builder
	for _, c := range withoutRepeatedSkips(r.Checks) {
		to := &b
		if c.State == Warn || c.State == Fail {
			to = &problems
		}
		to.WriteString(paint(c.State, fmt.Sprintf("%-4s", c.State)) + "  " + c.finding() + "\n")
		if c.Advice != "" {
			to.WriteString("      fix: " + c.Advice + "\n")
		}
	}
	if problems.Len() > 0 {
		b.WriteString("\n" + problems.String())
	}
	b.WriteString("\n" + r.summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// coloured is a text for a terminal.
func coloured(s State, text string) string {
	colour := map[State]string{OK: "32", Warn: "33", Fail: "31", Skip: "2"}[s]
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// withoutRepeatedSkips joins the checks of one key that are skipped for the same reason, at the place of the first.
func withoutRepeatedSkips(checks []Result) (all []Result) {
	type reason struct{ key, why string }
	first := map[reason]int{} // index in all
	for _, c := range checks {
		of := reason{c.Key, c.Says}
		i, repeated := first[of]
		switch {
		case c.State == Skip && repeated:
			all[i].Check += ", " + c.Check
			continue
		case c.State == Skip:
			first[of] = len(all)
		}
		all = append(all, c)
	}
	return all
}

// summary counts the checks.
func (r *Report) summary() string {
	counts := []string{}
	for _, s := range []struct {
		state     State
		one, many string
	}{{Fail, "failed", "failed"}, {Warn, "warning", "warnings"}, {OK, "ok", "ok"}, {Skip, "skipped", "skipped"}} {
		switch n := r.count(s.state); n {
		case 0:
		case 1:
			counts = append(counts, "1 "+s.one)
		default:
			counts = append(counts, fmt.Sprintf("%d %s", n, s.many))
		}
	}
	return fmt.Sprintf("%d checks: %s", len(r.Checks), strings.Join(counts, ", "))
}

// finding is what was found, without the state and the advice.
func (r Result) finding() string {
	name := r.Check
	if r.Key != "" {
		name = r.Key + ", " + name
	}
	if r.State == Skip {
		return name + " (" + r.Says + ")"
	}
	return name + ": " + r.Says
}

// String is the result as a line.
func (r Result) String() string {
	line := fmt.Sprintf("%-4s  %s", r.State, r.finding())
	if r.Advice != "" {
		line += "; " + r.Advice
	}
	return line
}

// JSON writes the report as one document.
func (r *Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}
