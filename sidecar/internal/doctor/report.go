package doctor

import (
	"encoding/json"
	"fmt"
	"io"
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

// Text writes one line for each check.
func (r *Report) Text(w io.Writer) error {
	for _, c := range r.Checks {
		if _, err := fmt.Fprintln(w, c); err != nil {
			return err
		}
	}
	return nil
}

// String is the result as a line.
func (r Result) String() string {
	name := r.Check
	if r.Key != "" {
		name = r.Key + ", " + name
	}
	switch {
	case r.State == Skip:
		return fmt.Sprintf("skip  %s (%s)", name, r.Says)
	case r.Advice != "":
		return fmt.Sprintf("%-4s  %s: %s; %s", r.State, name, r.Says, r.Advice)
	default:
		return fmt.Sprintf("%-4s  %s: %s", r.State, name, r.Says)
	}
}

// JSON writes the report as one document.
func (r *Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}
