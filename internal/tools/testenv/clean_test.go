package testenv

import (
	"os"
	"strings"
	"testing"
)

func TestClean_RemovesWhatAShellHas(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH"))
	for _, name := range []string{
		"AWS_PROFILE", "AWS_REGION", "SNOWFLAKE_ACCOUNT", "SNOWKEY_DIR", "SECRET_KEY", "PRIVATE_KEY_PASSPHRASE", "https_proxy", "HTTPS_PROXY", "LC_ALL", "TZ",
		"ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST",
	} {
		t.Setenv(name, "of the shell")
	}
	t.Setenv("TMPDIR", "/tmp/"+strings.Repeat("long", 20))
	clean()
	for _, setting := range os.Environ() {
		if strings.Contains(setting, "of the shell") || strings.Contains(setting, "longlong") {
			t.Errorf("%s is left", setting)
		}
	}
	if os.Getenv("PATH") == "" {
		t.Error("PATH is gone")
	}
}
