//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// sidecarWith starts another sidecar in the stack's network, as hardened as its own; args are those of
// docker run.
func sidecarWith(t *testing.T, args ...string) container {
	t.Helper()
	return start(t, append([]string{
		"--env", "SNOWKEY_KEY_PARAMETER=/demo/key", "--env", "SNOWKEY_PASSPHRASE_PARAMETER=/demo/passphrase",
		"--env", "SNOWKEY_INTERVAL=1s", "--env", "AWS_REGION=us-east-1", "--env", "AWS_ACCESS_KEY_ID=local",
		"--env", "AWS_SECRET_ACCESS_KEY=local", "--env", "AWS_ENDPOINT_URL_SSM=http://localcloud:4566",
	}, args...), "snowkey-sidecar")
}

func consumerWith(t *testing.T, args, flags []string) container {
	t.Helper()
	return start(t, append([]string{
		"--env", "SNOWFLAKE_ACCOUNT=LOCAL", "--env", "SNOWFLAKE_USER=DEMO", "--env", "SNOWFLAKE_HOST=localcloud",
		"--env", "SNOWFLAKE_PORT=8085", "--env", "SNOWFLAKE_PROTOCOL=http",
		"--env", "SNOWFLAKE_DISABLE_PLATFORM_DETECTION=true",
	}, args...), append([]string{"snowkey-consumer"}, flags...)...)
}

func start(t *testing.T, options []string, imageAndFlags ...string) container {
	t.Helper()
	args := append([]string{"run", "--detach", "--network", network, "--read-only", "--cap-drop", "ALL",
		"--security-opt", "no-new-privileges"}, options...)
	id := docker(t, append(args, imageAndFlags...)...)
	remove(t, "rm", "--force", "--volumes", id)
	c := container{id}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		last, err := command(context.Background(), nil, "docker", "logs", "--tail", "10", id)
		t.Logf("%s printed at last:\n%s%v", imageAndFlags[0], last, err)
	})
	return c
}

// tmpfs makes a volume in memory. A plain one is made by newVolume without options.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	return newVolume(t, "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o="+options)
}

func newVolume(t *testing.T, options ...string) string {
	t.Helper()
	name := docker(t, append([]string{"volume", "create"}, options...)...)
	remove(t, "volume", "rm", name)
	return name
}

const good = "size=1m,mode=0750,uid=65532,gid=65532,noexec,nosuid,nodev"

// Each of these volumes is refused in words that say what to change, and again and again until that is
// done; nothing is healthy meanwhile.
func TestVolume_BadOnesHaveAdvice(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]struct {
		args func(*testing.T) []string
		says []string
	}{
		"owned by root": {
			func(t *testing.T) []string {
				return []string{"--volume", tmpfs(t, "size=1m,mode=0755") + ":" + keyDirectory + ":nocopy"}
			},
			[]string{"permission denied", "make the directory writable for uid 65532", good, "VOLUME " + keyDirectory, "chown 65532"},
		},
		"a directory of the host that is owned by root": {
			func(t *testing.T) []string {
				dir := t.TempDir()
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				return []string{"--volume", dir + ":" + keyDirectory}
			},
			[]string{"permission denied", "make the directory writable for uid 65532", "chown 65532 " + keyDirectory},
		},
		"missing": {
			func(*testing.T) []string { return []string{"--env", "SNOWKEY_DIR=/keys"} },
			[]string{"no such file or directory", "mount the shared volume at /keys", "--dir"},
		},
		"of one page": {
			func(t *testing.T) []string {
				return []string{"--volume", tmpfs(t, "size=4k,mode=0750,uid=65532,gid=65532") + ":" + keyDirectory}
			},
			[]string{"no space left on device", "size=1m in the options of a tmpfs"},
		},
		"not tmpfs, where only tmpfs will do": {
			func(t *testing.T) []string {
				return []string{"--volume", newVolume(t) + ":" + keyDirectory, "--env", "SNOWKEY_REQUIRE_TMPFS=true"}
			},
			[]string{"--require-tmpfs allows tmpfs and ramfs only", "mount a tmpfs volume there with " + good, "drop --require-tmpfs"},
		},
		"mounted read-only": {
			func(t *testing.T) []string { return []string{"--volume", tmpfs(t, good) + ":" + keyDirectory + ":ro"} },
			[]string{"read-only file system", "mount the volume read-write in the sidecar's container"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sidecarWith(t, bad.args(t)...)
			c.says(t, append(bad.says, `"failures":2`)...)
			if out, err := c.exec(t, "/sidecar", "healthcheck"); err == nil || !strings.Contains(out, "unhealthy") {
				t.Errorf("healthy: %v, %s", err, out)
			}
			if status := c.inspect(t).State.Status; status != "running" {
				t.Errorf("it is %s", status)
			}
		})
	}
}

// What ECS mounts for a volume with nothing but a name belongs to root, unless the image declares the
// directory; so does a plain volume of Docker's.
func TestVolume_PlainOneIsWritableWithoutRoot(t *testing.T) {
	t.Parallel()
	volume := newVolume(t)
	c := sidecarWith(t, "--volume", volume+":"+keyDirectory)
	c.says(t, "key published")
	path := docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", volume)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != uid || owner.Gid != uid || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, of %d:%d", info.Mode(), owner.Uid, owner.Gid)
	}
	if _, err := keyfile.Read(filepath.Join(path, keyfile.DER.FileName())); err != nil {
		t.Error(err)
	}
}

func TestVolume_TwoSidecarsOnOne(t *testing.T) {
	t.Parallel()
	mount := tmpfs(t, good) + ":" + keyDirectory
	first := sidecarWith(t, "--volume", mount)
	first.says(t, "key published")

	same := sidecarWith(t, "--volume", mount)
	other := sidecarWith(t, "--volume", mount, "--env", "SNOWKEY_KEY_PARAMETER=/demo/key:1")
	other.says(t, ":parameter/demo/key has locked "+keyDirectory, "a volume of its own", "--dir")
	testenv.Eventually(t, "the second one with the same key is healthy", func() bool {
		_, err := same.exec(t, "/sidecar", "healthcheck")
		return err == nil
	})
	for name, c := range map[string]container{"first": first, "same": same} {
		if log := strings.Join(c.lines(t), "\n"); strings.Contains(log, "refresh failed") {
			t.Errorf("%s:\n%s", name, log)
		}
	}
}

func TestVolume_ConsumerMayStartFirst(t *testing.T) {
	t.Parallel()
	t.Run("waits for its key", func(t *testing.T) {
		t.Parallel()
		mount := tmpfs(t, good) + ":" + keyDirectory
		c := consumerWith(t, []string{"--volume", mount + ":ro"}, []string{"-interval=200ms"})
		c.says(t, "waiting for the first key")
		sidecarWith(t, "--volume", mount)
		c.says(t, "msg=answered")
		if log := strings.Join(c.lines(t), "\n"); strings.Contains(log, "query failed") {
			t.Error(log)
		}
	})
	empty := func(t *testing.T) []string { return []string{"--volume", tmpfs(t, good) + ":" + keyDirectory + ":ro"} }
	const orderAndMount = "start after the sidecar (dependsOn, condition HEALTHY) and mount its volume here"
	for name, tc := range map[string]struct {
		args func(*testing.T) []string
		says string
	}{
		"and the sidecar never": {empty, orderAndMount},
		"without the volume":    {func(*testing.T) []string { return nil }, orderAndMount},
		"as another user": {
			func(t *testing.T) []string { return append(empty(t), "--user", "1000:1000") },
			"run as the sidecar's user or in its group (user 65532:65532 in the task definition",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := consumerWith(t, tc.args(t), []string{"-wait=2s"})
			if code := docker(t, "wait", c.id); code != "1" {
				t.Errorf("it ended with %s", code)
			}
			c.says(t, "no key yet", keyDirectory+"/"+keyfile.PEM.FileName(), tc.says)
		})
	}
}
