package doctor

import "github.com/snowkey/snowkey/sidecar/internal/harden"

// processChecks are about the program that runs, so they need no facts.
var processChecks = group{
	applies: func(*facts) string { return "" },
	checks: []check{
		{"other processes", nil, func(*facts) finding { return judgeProtection(harden.OtherProcesses()) }},
		{"memory", nil, func(*facts) finding { return judgeProtection(harden.Memory()) }},
	},
}

func judgeProtection(p harden.Protection) finding {
	if p.Holds {
		return ok(p.Says)
	}
	return warn(p.Says, p.Advice)
}
