package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	file := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	token := file(serviceAccount+"/token", "x")
	for name, tc := range map[string]struct {
		env   map[string]string
		files func(*testing.T, string)
		want  Platform
	}{
		"nothing":                        {want: Elsewhere},
		"ECS":                            {env: map[string]string{"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}, want: ECS},
		"ECS, and variables of a pod":    {env: map[string]string{"ECS_CONTAINER_METADATA_URI_V4": "http://x", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, want: ECS},
		"a pod":                          {env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, want: Pod},
		"a pod without that variable":    {files: token, want: Pod},
		"a pod without a token":          {files: file(hostsFile, hostsBegin+".\n127.0.0.1\tlocalhost\n"), want: Pod},
		"a pod on the host's network":    {files: file(hostsFile, hostsBegin+" (host network).\n"), want: Pod},
		"hosts of a laptop":              {files: file(hostsFile, "127.0.0.1\tlocalhost\n"+hostsBegin+"\n"), want: Elsewhere},
		"short hosts":                    {files: file(hostsFile, "#"), want: Elsewhere},
		"a file of the directory's name": {files: file(serviceAccount, "x"), want: Elsewhere},
		"said to be none":                {env: map[string]string{"KUBERNETES_SERVICE_HOST": ""}, files: token, want: Elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if tc.files != nil {
				tc.files(t, root)
			}
			lookup := func(name string) (string, bool) { value, set := tc.env[name]; return value, set }
			if got := find(lookup, root); got != tc.want {
				t.Errorf("found %v, want %v", got, tc.want)
			}
		})
	}
}

func TestHere_ReadsTheEnvironment(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	if Here() != Pod {
		t.Errorf("this is %v", Here())
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if Here() != Elsewhere {
		t.Errorf("this is %v", Here())
	}
}

// all are the words of a platform.
func (p Platform) all() map[string]string {
	return map[string]string{
		"Tasks": p.Tasks(), "Command": p.Command(), "Start": p.Start(), "EntryPoint": p.EntryPoint(), "User": p.User(), "Architecture": p.Architecture(),
		"Memory": p.Memory(), "Processes": p.Processes(), "Kills": p.Kills(), "StopTime": p.StopTime(), "Mount": p.Mount("/run/snowflake"),
		"MountReadWrite": p.MountReadWrite(), "MountMemory": p.MountMemory(1, 2), "Remount": p.Remount(1, 2), "MakeWritable": p.MakeWritable("/run/snowflake", 1, 2),
		"MakeRoom": p.MakeRoom(), "Role": p.Role(), "GiveRole": p.GiveRole(), "OnlyTheRole": p.OnlyTheRole(),
	}
}

// A field of the one is none of the other.
func TestWords_AreThoseOfThePlatform(t *testing.T) {
	ofECS := []string{"ECS", "task", "mountPoints", "stopTimeout", "ulimits", "entryPoint", "`user`", "tmpfs", "mode="}
	ofPods := []string{"pod", "kubelet", "volumeMounts", "emptyDir", "fsGroup", "service account", "`args`", "runAsUser", "annotation"}
	has := func(text string, words []string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	for name, text := range Pod.all() {
		if has(text, ofECS) || !has(text, ofPods) {
			t.Errorf("%s in a pod: %s", name, text)
		}
	}
	for name, text := range ECS.all() {
		if has(text, ofPods) || !has(text, ofECS) {
			t.Errorf("%s in a task: %s", name, text)
		}
	}
	for name, text := range Elsewhere.all() {
		if has(text, ofPods) {
			t.Errorf("%s elsewhere: %s", name, text)
		}
	}
}

func TestWords_NameTheField(t *testing.T) {
	for _, tc := range []struct{ text, field string }{
		{Pod.Mount("/d"), "mount the shared volume at /d (volumeMounts"},
		{Pod.MountReadWrite(), "readOnly: false in its volumeMounts"},
		{Pod.MakeWritable("/d", 1000, 2000), "securityContext.fsGroup: 2000 in the pod's spec"},
		{Pod.MakeWritable("/d", 1000, 0), "securityContext.fsGroup in the pod's spec"},
		{Pod.MakeRoom(), "sizeLimit: 1Mi of the emptyDir"},
		{Pod.MountMemory(1, 65532), "medium: Memory and sizeLimit: 1Mi there, with securityContext.fsGroup: 65532"},
		{Pod.Remount(1, 2), "readOnly: true in the volumeMounts"},
		{Pod.GiveRole(), "serviceAccountName"},
		{Pod.StopTime(), "terminationGracePeriodSeconds"},
		{ECS.Mount("/d"), "mount the shared volume at /d (mountPoints in the task definition)"},
		{ECS.MakeWritable("/d", 1000, 2000), "VOLUME /d owned by that uid, or chown 1000"},
		{ECS.MakeRoom(), "size=1m in the tmpfs's options"},
		{ECS.GiveRole(), "taskRoleArn"},
		{Elsewhere.GiveRole(), "set AWS_PROFILE, or "},
		{Elsewhere.Mount("/d"), "create the directory: mkdir /d ("},
		{Elsewhere.MountReadWrite(), "mount the file system read-write ("},
		{Elsewhere.MakeWritable("/d", 1000, 2000), "chown 1000 /d ("},
		{Elsewhere.MakeRoom(), "make room in the file system"},
	} {
		if !strings.Contains(tc.text, tc.field) {
			t.Errorf("%q lacks %q", tc.text, tc.field)
		}
	}
	if strings.Contains(ECS.GiveRole(), "laptop") {
		t.Errorf("in a task: %s", ECS.GiveRole())
	}
}

func TestString_SaysWhatItIs(t *testing.T) {
	for p, want := range map[Platform]string{ECS: "an ECS task", Pod: "a pod", Elsewhere: "neither an ECS task nor a pod"} {
		if p.String() != want {
			t.Errorf("%d is %q, want %q", p, p, want)
		}
	}
}
