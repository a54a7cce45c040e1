// Package platform says where this process runs: in an ECS task, in a pod, or elsewhere. It has the words for advice there,
// since a field of a task definition helps nobody in a pod.
//
// It reads environment variables, and whether files exist. It never connects to anything, and knows nothing of keys.
package platform

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
)

// A Platform is where a process runs.
type Platform int

// Elsewhere is a laptop, a build, or Docker; advice has the words of ECS there.
const (
	Elsewhere Platform = iota
	ECS
	Pod
)

// Here is where this process runs.
func Here() Platform { return find(os.LookupEnv, "/") }

// find decides by variables first, and by files only if there are none: KUBERNETES_SERVICE_HOST without a value says that
// this is no pod.
func find(lookup func(string) (string, bool), root string) Platform {
	if uri, _ := lookup("ECS_CONTAINER_METADATA_URI_V4"); uri != "" {
		return ECS
	}
	host, known := lookup("KUBERNETES_SERVICE_HOST")
	if host != "" || !known && hasFilesOfAPod(root) {
		return Pod
	}
	return Elsewhere
}

// What the kubelet puts into a container: the service account's directory, unless automountServiceAccountToken is false,
// and a file that begins with a line of its own.
const (
	serviceAccount = "var/run/secrets/kubernetes.io/serviceaccount"
	hostsFile      = "etc/hosts"
	hostsBegin     = "# Kubernetes-managed hosts file"
)

func hasFilesOfAPod(root string) bool {
	if info, err := os.Stat(filepath.Join(root, serviceAccount)); err == nil && info.IsDir() {
		return true
	}
	hosts, err := os.Open(filepath.Join(root, hostsFile))
	if err != nil {
		return false
	}
	defer hosts.Close()
	begin := make([]byte, len(hostsBegin))
	_, err = io.ReadFull(hosts, begin)
	return err == nil && bytes.Equal(begin, []byte(hostsBegin))
}
