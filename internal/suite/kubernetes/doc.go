// Package kubernetes runs the images as a pod on a real kubelet and watches the pod from outside; and it holds the
// manifests of the examples to what Kubernetes' own API server takes. It has tests only, behind the build tag
// kubernetes: make test-kubernetes.
//
// The kubelet runs by itself, without an API server, over containerd, and takes static pods from a directory. Both run
// in namespaces of their own, on a file system in memory: nothing of them is left on this machine at the end. The
// package never reaches a registry or a cluster.
package kubernetes
