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
		problems = append(problems, fmt.Errorf("%s: no such setting, the nearest is %s", name, nearest(name, known)))
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

func nearest(name string, known []string) string {
	without := strings.TrimPrefix(name, Prefix)
	closest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, closest) == 1 {
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
	return closest
}

// distance is the number of letters to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
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
