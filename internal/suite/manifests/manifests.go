// Package manifests reads the examples in examples/kubernetes and says which of our rules they break: what Kubernetes
// accepts, but what leaves a pod without its key, or its key to others.
//
// It is for tests. It never talks to a cluster, and it knows the fields that the examples use, not all that there are: one
// that it does not know is an error.
package manifests

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// An Object is one of Kubernetes, with the fields that the examples use. Spec depends on its kind.
type Object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   Metadata
	Spec       yaml.Node

	// The next fields are a ServiceAccount's.
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
}

// Metadata are an object's.
type Metadata struct {
	Name        string
	Namespace   string
	Labels      map[string]string
	Annotations map[string]string
}

// A Template is the pod of an object, or the object's own spec if it is a pod.
type Template struct {
	Metadata Metadata
	Spec     PodSpec
}

// PodSpec is what a pod runs.
type PodSpec struct {
	ServiceAccountName            string `yaml:"serviceAccountName"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool  `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	RestartPolicy                 string `yaml:"restartPolicy"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      *int                  `yaml:"runAsUser"`
		RunAsGroup     *int                  `yaml:"runAsGroup"`
		FSGroup        *int                  `yaml:"fsGroup"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	InitContainers []Container `yaml:"initContainers"`
	Containers     []Container
	Volumes        []Volume
}

// A Volume is an emptyDir: the examples have no other.
type Volume struct {
	Name     string
	EmptyDir struct {
		Medium    string
		SizeLimit string `yaml:"sizeLimit"`
	} `yaml:"emptyDir"`
}

// A Container is one of a pod.
type Container struct {
	Name            string
	Image           string
	RestartPolicy   string `yaml:"restartPolicy"`
	Command         []string
	Args            []string
	Env             []Variable
	Ports           []Port
	StartupProbe    *Probe  `yaml:"startupProbe"`
	LivenessProbe   *Probe  `yaml:"livenessProbe"`
	ReadinessProbe  *Probe  `yaml:"readinessProbe"`
	VolumeMounts    []Mount `yaml:"volumeMounts"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	Resources struct{ Requests, Limits map[string]string }
}

// A Variable is one of a container's environment.
type Variable struct{ Name, Value string }

// A Port is one that a container listens at.
type Port struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
}

// A Probe runs a command in the container.
type Probe struct {
	Exec             struct{ Command []string }
	PeriodSeconds    int `yaml:"periodSeconds"`
	TimeoutSeconds   int `yaml:"timeoutSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

// A Mount is a volume in a container.
type Mount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

// A Deployment keeps pods running.
type Deployment struct {
	Replicas int
	Selector Selector
	Template Template
}

// A Selector chooses pods or namespaces by their labels.
type Selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

// A CronJob runs a pod by schedule.
type CronJob struct {
	Suspend                    bool
	Schedule                   string
	TimeZone                   string `yaml:"timeZone"`
	ConcurrencyPolicy          string `yaml:"concurrencyPolicy"`
	StartingDeadlineSeconds    int    `yaml:"startingDeadlineSeconds"`
	SuccessfulJobsHistoryLimit int    `yaml:"successfulJobsHistoryLimit"`
	FailedJobsHistoryLimit     int    `yaml:"failedJobsHistoryLimit"`
	JobTemplate                struct {
		Spec struct {
			BackoffLimit          *int `yaml:"backoffLimit"`
			ActiveDeadlineSeconds int  `yaml:"activeDeadlineSeconds"`
			PodFailurePolicy      struct {
				Rules []struct {
					Action          string
					OnPodConditions []struct{ Type, Status string } `yaml:"onPodConditions"`
				}
			} `yaml:"podFailurePolicy"`
			Template Template
		}
	} `yaml:"jobTemplate"`
}

// A NetworkPolicy says what reaches the pods, and what they reach.
type NetworkPolicy struct {
	PodSelector Selector `yaml:"podSelector"`
	PolicyTypes []string `yaml:"policyTypes"`
	Ingress     []struct {
		From  []Peer
		Ports []PolicyPort
	}
	Egress []struct {
		To    []Peer
		Ports []PolicyPort
	}
}

// A Peer is at the other end.
type Peer struct {
	NamespaceSelector Selector `yaml:"namespaceSelector"`
	PodSelector       Selector `yaml:"podSelector"`
	IPBlock           struct {
		CIDR   string
		Except []string
	} `yaml:"ipBlock"`
}

// A PolicyPort is a number, or the name of a container's port.
type PolicyPort struct{ Protocol, Port string }

// A PodMonitor has Prometheus scrape pods.
type PodMonitor struct {
	Selector            Selector
	PodMetricsEndpoints []struct{ Port, Interval string } `yaml:"podMetricsEndpoints"`
}

// Read reads all documents of a file.
func Read(text []byte) ([]Object, error) {
	var all []Object
	for decoder := decoderOf(text); ; {
		var o Object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if o.APIVersion != versions[o.Kind] || o.Metadata.Name == "" {
			return nil, fmt.Errorf("a %s of %s named %q, want %s", o.Kind, o.APIVersion, o.Metadata.Name, versions[o.Kind])
		}
		all = append(all, o)
	}
}

var versions = map[string]string{
	"Namespace": "v1", "ServiceAccount": "v1", "Pod": "v1", "Deployment": "apps/v1", "CronJob": "batch/v1",
	"NetworkPolicy": "networking.k8s.io/v1", "PodMonitor": "monitoring.coreos.com/v1",
}

// decode reads the spec strictly.
func (o Object) decode(into any) error {
	text, err := yaml.Marshal(&o.Spec)
	if err != nil {
		return err
	}
	if err := decoderOf(text).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s %s: %w", o.Kind, o.Metadata.Name, err)
	}
	return nil
}

func decoderOf(text []byte) *yaml.Decoder {
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	return decoder
}

// Pod is what the object runs, nil if it runs nothing. A spec with a field that the examples do not use is an error.
func (o Object) Pod() (*Template, error) {
	switch o.Kind {
	case "Pod":
		t := &Template{Metadata: o.Metadata}
		return t, o.decode(&t.Spec)
	case "Deployment":
		var d Deployment
		err := o.decode(&d)
		return &d.Template, err
	case "CronJob":
		var c CronJob
		err := o.decode(&c)
		return &c.JobTemplate.Spec.Template, err
	}
	return nil, nil
}

// Sidecar is the native sidecar, nil without one.
func (p PodSpec) Sidecar() *Container {
	for i, c := range p.InitContainers {
		if c.RestartPolicy == "Always" {
			return &p.InitContainers[i]
		}
	}
	return nil
}

// All are the containers of both lists.
func (p PodSpec) All() []Container {
	return append(append([]Container(nil), p.InitContainers...), p.Containers...)
}

// Setting is the value of a variable, "" if it is not set.
func (c Container) Setting(name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// mount is where the volume is mounted, nil if it is not.
func (c Container) mount(volume string) *Mount {
	for i, m := range c.VolumeMounts {
		if m.Name == volume {
			return &c.VolumeMounts[i]
		}
	}
	return nil
}
