package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

type environment map[string]string

func newEnvironment(environ []string) environment {
	env := environment{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}

// unknown is an error for each SNOWKEY_ variable that no command takes: a misspelt setting would otherwise be a default
// in production.
func (env environment) unknown() []error {
	var known []string
	for _, d := range documented() {
		known = append(known, d.name())
	}
	var problems []error
	var services []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, Prefix) || slices.Contains(known, name) {
			continue
		}
		if service := env.serviceOf(name); service != "" {
			if !slices.Contains(services, service) {
				services = append(services, service)
				problems = append(problems, fmt.Errorf("%s: no setting, but a variable that Kubernetes sets for a Service; "+
					"set enableServiceLinks: false in the pod's spec", name))
			}
			continue
		}
		if meant := nearest(name, known); meant != "" {
			problems = append(problems, fmt.Errorf("%s: no such setting; did you mean %s?", name, meant))
		} else {
			problems = append(problems, fmt.Errorf("%s: no such setting; unset it, or see a command's --help for the settings", name))
		}
	}
	return problems
}

// serviceOf is the prefix of all variables of the Kubernetes Service that name belongs to, "" if it belongs to none. A Service
// called snowkey has SNOWKEY_SERVICE_HOST, SNOWKEY_PORT and more.
func (env environment) serviceOf(name string) string {
	for host := range env {
		service, found := strings.CutSuffix(host, "SERVICE_HOST")
		rest, ofIt := strings.CutPrefix(name, service)
		if found && ofIt && (name == host || strings.HasPrefix(rest, "SERVICE_PORT") || strings.HasPrefix(rest, "PORT")) {
			return service
		}
	}
	return ""
}

// farthest is the distance up to which a name counts as misspelt.
const farthest = 2

// nearest is the setting that is probably meant, "" if there is none.
func nearest(name string, known []string) string {
	without := strings.TrimPrefix(name, Prefix)
	closest := slices.MinFunc(known, func(a, b string) int { return Distance(name, a) - Distance(name, b) })
	if Distance(name, closest) == 1 {
		return closest // such as SNOWKEY_KEYS for SNOWKEY_KEY
	}
	if slices.Contains(known, without) {
		return without // such as SECRET_KEY, which has no prefix
	}
	for _, k := range known {
		if !strings.HasPrefix(k, Prefix) && strings.HasSuffix(k, "_"+without) {
			return k // such as PRIVATE_KEY_PASSPHRASE for SNOWKEY_PASSPHRASE
		}
	}
	if i := slices.IndexFunc(known, func(k string) bool { return beginsLike(name, k) }); i >= 0 {
		return known[i]
	}
	if Distance(name, closest) > farthest {
		return ""
	}
	return closest
}

// beginsLike reports whether one name is the beginning of the other, as SNOWKEY_KEYPARAM is of SNOWKEY_KEY_PARAMETER and
// SNOWKEY_DIR of SNOWKEY_DIRECTORY.
func beginsLike(name, known string) bool {
	plain := func(s string) string { return strings.ReplaceAll(strings.TrimPrefix(s, Prefix), "_", "") }
	a, b := plain(name), plain(known)
	return a != "" && strings.HasPrefix(known, Prefix) && (strings.HasPrefix(b, a) || strings.HasPrefix(a, b))
}

// Distance is the number of letters to insert, delete or replace to make b of a (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
