package doctor

import "github.com/snowkey/snowkey/sidecar/internal/config"

// judgeSettings reports on the settings of several keys together. One key has nothing to share.
func judgeSettings(c *config.DoctorConfig) *Report {
	if len(c.Keys) < 2 {
		return new(Report)
	}
	const check = "parameters of the keys"
	warnings := c.Warnings()
	r := &Report{Warnings: len(warnings)}
	for _, w := range warnings {
		r.Checks = append(r.Checks, Result{Check: check, State: Warn, Says: printable(w.Says), Advice: printable(w.Advice)})
	}
	if len(warnings) == 0 {
		r.Checks = []Result{{Check: check, State: OK, Says: "each key has its own"}}
	}
	return r
}
