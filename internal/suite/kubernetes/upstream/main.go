// Command upstream holds manifests to Kubernetes' own code: for each object of a kustomization or file it runs what an
// API server runs when the object is created, from strict decoding to validation; and it holds each pod to the restricted
// Pod Security Standard. It prints the objects as kustomize makes them.
//
// It is a Go module of its own, so that the project's does not depend on Kubernetes; its go.mod also pins the kubelet
// of the tests. It never reaches a cluster. No API server knows a PodMonitor by itself, so it checks only the fields of
// one.
package main

import (
	"errors"
	"fmt"
	"os"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: upstream DIRECTORY-OF-A-KUSTOMIZATION|FILE...")
		os.Exit(2)
	}
	failed := false
	for _, path := range os.Args[1:] {
		objects, err := read(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
			continue
		}
		for _, object := range objects {
			fmt.Printf("---\n%s", object)
			if err := check(object); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
				failed = true
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}

// read returns the objects of a kustomization, or of a file, each as YAML.
func read(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return documents(string(text))
	}
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return nil, err
	}
	if made.Size() == 0 {
		return nil, errors.New("the kustomization makes no object: add resources")
	}
	var objects [][]byte
	for _, resource := range made.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		objects = append(objects, text)
	}
	return objects, nil
}
