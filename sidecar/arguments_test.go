package main

import (
	"errors"
	"strings"
	"testing"
)

// It comes before all settings, so that none has to be right there.
func TestCheckSystem_WindowsPublishesNoKeys(t *testing.T) {
	for command, refused := range map[string]bool{
		"sidecar": true, "run": true, "once": true, "exec": true,
		"keygen": false, "rotate": false, "doctor": false, "healthcheck": false,
	} {
		err := checkSystem(command, "windows")
		if refused != (err != nil) {
			t.Errorf("%s: error %v", command, err)
		}
		if err == nil {
			continue
		}
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "is for Linux") || !strings.Contains(err.Error(), "container image") {
			t.Errorf("%s: exit code %d, %v", command, exitCode(err), err)
		}
	}
	for _, system := range []string{"linux", "darwin"} {
		if err := errors.Join(checkSystem("run", system), checkSystem("exec", system)); err != nil {
			t.Errorf("%s: %v", system, err)
		}
	}
}
