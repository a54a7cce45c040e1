package rotate

import (
	"strings"
	"testing"
	"time"
)

func TestWait_NamesTasksOrPods(t *testing.T) {
	wait := Wait{For: time.Second}
	for name, tc := range map[string]struct{ variable, value, want string }{
		"in a task": {"ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x", "wait 1s for the tasks to take the new key"},
		"in a pod":  {"KUBERNETES_SERVICE_HOST", "10.0.0.1", "wait 1s for the pods to take the new key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tc.variable, tc.value)
			if got := wait.String(); !strings.HasPrefix(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
