//go:build kubernetes

package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/internal/tools/process"
)

const (
	endpoint    = "/run/containerd/containerd.sock"
	manifestDir = "/run/manifests"
	logDir      = "/run/logs"
	nodeName    = "node"

	// timeout is for what takes seconds on an idle machine.
	timeout = 3 * time.Minute
)

// A node is a containerd and a kubelet.
type node struct {
	work                string
	containerd, kubelet *process.Process
}

const containerdConfig = `
version = 2
[grpc]
  address = "` + endpoint + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true # root without CAP_SYS_RESOURCE cannot lower it
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + pluginsDir + `"
    conf_dir = "/run/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`

const networkConfig = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "` + bridge + `", "isDefaultGateway": true,
    "ipam": {"type": "host-local", "subnet": "` + network + `"}
  }]
}`

// The memory that a busy machine has left, and its disk, are not what is tested: nothing is evicted.
const kubeletConfig = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://` + endpoint + `
staticPodPath: ` + manifestDir + `
fileCheckFrequency: 1s
syncFrequency: 2s
address: 127.0.0.1
port: 10250
readOnlyPort: 10255
healthzPort: 10248
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /` + cgroup + `
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
enableControllerAttachDetach: false
volumePluginDir: /var/lib/kubelet/volume-plugins
evictionHard:
  memory.available: 0%
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
  imagefs.inodesFree: 0%
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
`

// startNode also returns a node that it could not start in full, for its logs.
func startNode(work string) (*node, error) {
	n := &node{work: work}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, dir := range []string{manifestDir, logDir, "/run/cni", "/run/containerd"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return n, err
		}
	}
	for path, text := range map[string]string{
		"/run/containerd.toml": containerdConfig, "/run/cni/pods.conflist": networkConfig,
		"/run/kubelet.yaml": kubeletConfig,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return n, err
		}
	}
	var err error
	if n.containerd, err = start("containerd", "containerd", "--config", "/run/containerd.toml"); err != nil {
		return n, err
	}
	if err := until(ctx, n.containerd, func() bool { _, err := ctr(ctx, "version"); return err == nil }); err != nil {
		return n, err
	}
	if err := n.importImages(ctx); err != nil {
		return n, err
	}
	kubelet, err := filepath.Abs(kubeletPath)
	if err != nil {
		return n, err
	}
	n.kubelet, err = start("kubelet", kubelet,
		"--config", "/run/kubelet.yaml", "--hostname-override", nodeName, "--node-ip", address, "--v", "2")
	if err != nil {
		return n, err
	}
	return n, until(ctx, n.kubelet, func() bool { return get(ctx, "http://127.0.0.1:10248/healthz", nil) == nil })
}

func (n *node) importImages(ctx context.Context) error {
	pause := filepath.Join(n.work, "pause.tar")
	if err := writePauseImage(pause, filepath.Join(n.work, "pause")); err != nil {
		return err
	}
	for _, file := range []string{pause, imagesPath} {
		if _, err := ctr(ctx, "images", "import", file); err != nil {
			return err
		}
	}
	return nil
}

func ctr(ctx context.Context, args ...string) (string, error) {
	return command(ctx, "ctr", append([]string{"--address", endpoint, "--namespace", "k8s.io"}, args...)...)
}

// stop ends both. Containers that are left end with the namespace.
func (n *node) stop() error {
	var errs []error
	for _, p := range []*process.Process{n.kubelet, n.containerd} {
		_ = p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done(): // with whatever status
		case <-time.After(30 * time.Second):
			p.Kill()
			errs = append(errs, fmt.Errorf("process %d did not stop within 30 seconds of SIGTERM", p.PID()))
		}
	}
	return errors.Join(errs...)
}

func (n *node) printLogs() {
	logs, _ := filepath.Glob(filepath.Join(logDir, "*"))
	ofPods, _ := filepath.Glob("/var/log/pods/*/*/*.log")
	for _, path := range append(logs, ofPods...) {
		text, _ := os.ReadFile(path)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Printf("--- the last lines of %s\n%s\n", path, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

// start runs a program that prints into a file.
func start(name, path string, args ...string) (*process.Process, error) {
	log, err := os.Create(filepath.Join(logDir, name))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = os.Environ(), log, log
	return process.Start(name, cmd, nil)
}

// until waits for something that p brings about.
func until(ctx context.Context, p *process.Process, ready func() bool) error {
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d is not ready: %w", p.PID(), ctx.Err())
		case <-p.Done():
			return fmt.Errorf("process %d has ended: %w", p.PID(), p.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// get reads JSON, unless into is nil.
func get(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}
