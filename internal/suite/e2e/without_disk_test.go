//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// With sockets alone no disk holds a key: no volume, layer or log. Keys rotate, and the sidecar is killed and started again,
// without a failed query. It runs after TestStack, by the names of their files: of the events before so many more the engine
// would no longer tell.
func TestServe_KeyIsOnNoDisk(t *testing.T) {
	s := &stack{began: time.Now().Add(-time.Second)}
	volume := newVolume(t, "snowkey-e2e-served") // below 107 bytes on the host, where the test reads the sockets
	sidecar := sidecarWith(t, "--volume", volume+":"+keyDirectory, "--env", "SNOWKEY_FORMATS=none", "--env", "SNOWKEY_SERVE=der,pem")
	consumer := &reader{
		container: consumerWith(t, []string{
			"--volume", volume + ":" + keyDirectory + ":ro", "--env", "SNOWFLAKE_PRIVATE_KEY_PATH=" + keyDirectory + "/" + keyfile.DER.SocketName(),
		}, []string{"-interval=50ms", "-workers=4"}),
		answered: regexp.MustCompile(`msg=answered .*fingerprint="(SHA256:[A-Za-z0-9+/=]+)"`),
		failed:   regexp.MustCompile(`msg="query failed"|panic:`),
	}
	dir := docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", volume)
	served := func() string {
		t.Helper()
		der, err := keyfile.ReadBytes(t.Context(), filepath.Join(dir, keyfile.DER.SocketName()))
		if err != nil {
			return ""
		}
		key, err := keyfile.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		s.keys = append(s.keys, der)
		return key.Fingerprint()
	}
	rotate := func() {
		t.Helper()
		before := served()
		if _, err := command(t.Context(), composeEnviron, "make", "rotate"); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "the consumer follows", func() bool {
			now := served()
			return now != before && consumer.key(t) == now
		})
	}
	testenv.Eventually(t, "the sidecar is healthy", func() bool {
		_, err := sidecar.exec(t, "/sidecar", "healthcheck")
		return err == nil
	})
	consumer.goesOn(t)
	rotate()
	docker(t, "kill", "--signal", "KILL", sidecar.id)
	consumer.goesOn(t)
	docker(t, "start", sidecar.id)
	testenv.Eventually(t, "the sidecar serves again", func() bool { return served() != "" })
	consumer.goesOn(t)
	rotate()
	consumer.noFailure(t)

	if len(s.keys) < 3 {
		t.Fatalf("%d keys were served", len(s.keys))
	}
	for _, leak := range s.leaks(t, []string{sidecar.id, consumer.id}, []string{"snowkey-sidecar", "snowkey-consumer"}) {
		t.Error(leak)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 5 {
		t.Errorf("the volume has %v, %v; want two sockets for the key, refresh.sock, status.json and sidecar.lock", left, err)
	}
}
