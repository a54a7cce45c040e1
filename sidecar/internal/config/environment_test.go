package config

import (
	"strings"
	"testing"
)

// A Service called snowkey, or snowkey-sidecar, puts variables into each container of its namespace.
func TestLoad_VariablesOfAService(t *testing.T) {
	service := func(prefix string) []string {
		return []string{prefix + "_SERVICE_HOST=10.0.0.1", prefix + "_SERVICE_PORT=80", prefix + "_SERVICE_PORT_HTTP=80", prefix + "_PORT=tcp://10.0.0.1:80",
			prefix + "_PORT_80_TCP=tcp://10.0.0.1:80", prefix + "_PORT_80_TCP_ADDR=10.0.0.1"}
	}
	problems := newEnvironment(append(service("SNOWKEY"), service("KUBERNETES")...)).unknown()
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "SNOWKEY_PORT: no setting") || !strings.Contains(problems[0].Error(), "enableServiceLinks: false") {
		t.Errorf("%v", problems)
	}
	problems = newEnvironment(append(service("SNOWKEY_SIDECAR"), "SNOWKEY_PORTT=1")).unknown()
	if len(problems) != 2 || !strings.Contains(problems[0].Error()+problems[1].Error(), "SNOWKEY_PORTT: no such setting") {
		t.Errorf("%v", problems)
	}
}
