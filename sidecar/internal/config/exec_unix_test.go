//go:build unix

package config_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/supervise"
)

func TestExecConfig_HasSettingsOfItsOwn(t *testing.T) {
	for _, tc := range []struct {
		written string
		want    supervise.Change
	}{
		{"", supervise.Change{}},
		{"none", supervise.Change{}},
		{"restart", supervise.Change{Restart: true}},
		{"SIGHUP", supervise.Change{Signal: syscall.SIGHUP}},
		{"SIGUSR2", supervise.Change{Signal: syscall.SIGUSR2}},
	} {
		environ := []string{"SNOWKEY_KEY_PARAMETER=/k", "SNOWKEY_START_TIMEOUT=1m"}
		if tc.written != "" {
			environ = append(environ, "SNOWKEY_ON_CHANGE="+tc.written)
		}
		var c config.ExecConfig
		err := loadInto(t, &c, nil, environ...)
		if err != nil || c.OnChange != tc.want || c.StopTimeout != 30*time.Second || c.StartTimeout != time.Minute {
			t.Errorf("%s: %+v, %v", tc.written, c, err)
		}
	}
}
