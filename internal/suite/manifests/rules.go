package manifests

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A rule reports each way in which its subject breaks it.
type rule[T any] struct {
	name   string
	broken func(T) []string
}

func broken[T any](rules []rule[T], of T) (all []string) {
	for _, r := range rules {
		for _, how := range r.broken(of) {
			all = append(all, r.name+": "+how)
		}
	}
	return all
}

// A Set is the objects that are applied together.
type Set []Object

// Broken names each rule that an object breaks, and how. An object that cannot be read is an error.
func (s Set) Broken() ([]string, error) {
	var all []string
	add := func(o Object, found []string) {
		for _, f := range found {
			all = append(all, o.Kind+" "+o.Metadata.Name+": "+f)
		}
	}
	for _, o := range s {
		pod, err := o.Pod()
		if err != nil {
			return nil, err
		}
		if pod != nil {
			add(o, broken(podRules, *pod))
		}
		switch o.Kind {
		case "Deployment":
			var d Deployment
			if err := o.decode(&d); err != nil {
				return nil, err
			}
			add(o, broken(deploymentRules, d))
		case "CronJob":
			var c CronJob
			if err := o.decode(&c); err != nil {
				return nil, err
			}
			add(o, broken(cronJobRules, c))
		case "NetworkPolicy":
			var n NetworkPolicy
			if err := o.decode(&n); err != nil {
				return nil, err
			}
			add(o, broken(networkRules, n))
		case "PodMonitor":
			var m PodMonitor
			if err := o.decode(&m); err != nil {
				return nil, err
			}
			add(o, broken(monitorRules, monitored{m, s}))
		case "ServiceAccount":
			add(o, broken(accountRules, o))
		}
	}
	return all, nil
}

var (
	healthcheck = []string{"/sidecar", "healthcheck"}

	// A digest, or the word that stands for one.
	pinned = regexp.MustCompile(`\.dkr\.ecr\..*@sha256:(DIGEST|[0-9a-f]{64})$`)

	roleARN = regexp.MustCompile(`^arn:aws:iam::(ACCOUNT|[0-9]{12}):role/[a-z-]+$`)
)

const (
	ours      = 65532 // user and group of the image
	longStart = 300   // seconds that a start may take, such as one during an outage of SSM
)

// A pod that rotates has neither a sidecar nor the key's volume.
func rotates(p PodSpec) bool {
	return len(p.Containers) == 1 && len(p.Containers[0].Args) > 0 && p.Containers[0].Args[0] == "rotate"
}

var podRules = []rule[Template]{
	{"a pod runs as the image's user, with a group for its volumes and the runtime's seccomp profile", func(t Template) (all []string) {
		s := t.Spec.SecurityContext
		if !s.RunAsNonRoot || s.SeccompProfile.Type != "RuntimeDefault" {
			all = append(all, "runAsNonRoot or seccompProfile")
		}
		for name, id := range map[string]*int{"runAsUser": s.RunAsUser, "runAsGroup": s.RunAsGroup, "fsGroup": s.FSGroup} {
			if id != nil && *id != ours { // OpenShift chooses what is not set
				all = append(all, fmt.Sprintf("%s is %d", name, *id))
			}
		}
		if set := []bool{s.RunAsUser != nil, s.RunAsGroup != nil, s.FSGroup != nil}; slices.Contains(set, true) && slices.Contains(set, false) {
			all = append(all, "only some of runAsUser, runAsGroup and fsGroup")
		}
		return all
	}},
	{"a pod has a service account, and no token of the cluster's API", func(t Template) []string {
		if t.Spec.ServiceAccountName == "" || t.Spec.AutomountServiceAccountToken == nil || *t.Spec.AutomountServiceAccountToken {
			return []string{"serviceAccountName or automountServiceAccountToken"}
		}
		return nil
	}},
	// A Service called snowkey would otherwise set SNOWKEY_PORT, which is no setting.
	{"a pod has no variables of Services", func(t Template) []string {
		if t.Spec.EnableServiceLinks == nil || *t.Spec.EnableServiceLinks {
			return []string{"enableServiceLinks"}
		}
		return nil
	}},
	eachContainer("a container cannot gain privileges, cannot write to its own disk, and has a memory limit", func(c Container) string {
		s := c.SecurityContext
		switch {
		case s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation:
			return "allowPrivilegeEscalation"
		case !s.ReadOnlyRootFilesystem:
			return "readOnlyRootFilesystem"
		case !slices.Equal(s.Capabilities.Drop, []string{"ALL"}):
			return "capabilities"
		case c.Resources.Limits["memory"] == "" || c.Resources.Requests["memory"] != c.Resources.Limits["memory"] || c.Resources.Requests["cpu"] == "":
			return "resources"
		}
		return ""
	}),
	eachContainer("an image is named by its digest", func(c Container) string {
		if !pinned.MatchString(c.Image) {
			return c.Image
		}
		return ""
	}),
	eachContainer("no secret stands in the environment", func(c Container) string {
		for _, secret := range []string{"SECRET_KEY", "SNOWKEY_SECRET_KEY", "PRIVATE_KEY_PASSPHRASE", "AWS_SECRET_ACCESS_KEY"} {
			if c.Setting(secret) != "" {
				return secret
			}
		}
		return ""
	}),
	eachContainer("a container that calls AWS has the Region", func(c Container) string {
		if c.Setting("SNOWKEY_KEY_PARAMETER") != "" && c.Setting("AWS_REGION") == "" {
			return "no AWS_REGION"
		}
		return ""
	}),
	{"one native sidecar has the sidecar's settings, unless the pod rotates", func(t Template) []string {
		p := t.Spec
		if rotates(p) {
			return nil
		}
		if len(p.InitContainers) != 1 || p.Sidecar() == nil || p.Sidecar().Setting("SNOWKEY_KEY_PARAMETER") == "" {
			return []string{fmt.Sprintf("%d init containers", len(p.InitContainers))}
		}
		for _, c := range p.Containers {
			if c.Setting("SNOWKEY_KEY_PARAMETER") != "" || c.RestartPolicy != "" {
				return []string{c.Name}
			}
		}
		return nil
	}},
	ofSidecar("the sidecar's probes check for a valid key, and give an outage of SSM time to end", func(c Container, _ PodSpec) string {
		start, life := c.StartupProbe, c.LivenessProbe
		switch {
		case start == nil || !slices.Equal(start.Exec.Command, healthcheck) || life == nil || !slices.Equal(life.Exec.Command, healthcheck):
			return "probes"
		case start.PeriodSeconds > 5 || start.PeriodSeconds*start.FailureThreshold < longStart:
			return "startupProbe"
		case life.PeriodSeconds < 10 || life.FailureThreshold < 3:
			return "livenessProbe"
		case start.TimeoutSeconds < 5 || life.TimeoutSeconds < 5: // a check waits for sockets, and for files that are just replaced
			return "timeoutSeconds"
		case c.ReadinessProbe != nil: // the application has the key that it has read
			return "readinessProbe"
		}
		return ""
	}),
	ofSidecar("the key is in memory of a limited size, and the sidecar requires that", func(c Container, p PodSpec) string {
		volume := p.volumeOf(c)
		if volume == nil || volume.EmptyDir.Medium != "Memory" || volume.EmptyDir.SizeLimit != "1Mi" || c.Setting("SNOWKEY_REQUIRE_TMPFS") != "true" {
			return "its volume"
		}
		return ""
	}),
	ofSidecar("a reader mounts the key's volume read-only, at the same path, and finds the key there", func(c Container, p PodSpec) string {
		volume := p.volumeOf(c)
		if volume == nil || c.mount(volume.Name).ReadOnly {
			return "the sidecar cannot publish"
		}
		readers := 0
		for _, reader := range p.Containers {
			m := reader.mount(volume.Name)
			if m == nil {
				continue
			}
			readers++
			file := reader.Setting("SNOWFLAKE_PRIVATE_KEY_PATH")
			if !m.ReadOnly || m.MountPath != c.mount(volume.Name).MountPath || path.Dir(file) != m.MountPath || path.Base(file) != keyfile.PEM.FileName() {
				return fmt.Sprintf("%s mounts it at %s, read-only: %v, and reads %q", reader.Name, m.MountPath, m.ReadOnly, file)
			}
		}
		if readers == 0 {
			return "nothing reads it"
		}
		return ""
	}),
	{"every volume is in memory, limited, and mounted", func(t Template) (all []string) {
		for _, v := range t.Spec.Volumes {
			mounted := slices.ContainsFunc(t.Spec.All(), func(c Container) bool { return c.mount(v.Name) != nil })
			if v.EmptyDir.Medium != "Memory" || v.EmptyDir.SizeLimit == "" || !mounted {
				all = append(all, v.Name)
			}
		}
		for _, c := range t.Spec.All() {
			for _, m := range c.VolumeMounts {
				if !slices.ContainsFunc(t.Spec.Volumes, func(v Volume) bool { return v.Name == m.Name }) {
					all = append(all, c.Name+" mounts "+m.Name)
				}
			}
		}
		return all
	}},
	{"only the sidecar has the role", func(t Template) []string {
		if !rotates(t.Spec) && t.Metadata.Annotations["eks.amazonaws.com/skip-containers"] != "app" {
			return []string{"annotations"}
		}
		return nil
	}},
}

// volumeOf is the volume at the sidecar's directory.
func (p PodSpec) volumeOf(sidecar Container) *Volume {
	for _, m := range sidecar.VolumeMounts {
		if m.MountPath != keyfile.DefaultDir {
			continue
		}
		for i, v := range p.Volumes {
			if v.Name == m.Name {
				return &p.Volumes[i]
			}
		}
	}
	return nil
}

func eachContainer(name string, wrong func(Container) string) rule[Template] {
	return rule[Template]{name, func(t Template) (all []string) {
		for _, c := range t.Spec.All() {
			if w := wrong(c); w != "" {
				all = append(all, c.Name+": "+w)
			}
		}
		return all
	}}
}

func ofSidecar(name string, wrong func(Container, PodSpec) string) rule[Template] {
	return rule[Template]{name, func(t Template) []string {
		c := t.Spec.Sidecar()
		if c == nil {
			return nil
		}
		if w := wrong(*c, t.Spec); w != "" {
			return []string{w}
		}
		return nil
	}}
}

var deploymentRules = []rule[Deployment]{
	{"a Deployment finds its pods, and gives application and sidecar time to end", func(d Deployment) []string {
		for name, value := range d.Selector.MatchLabels {
			if d.Template.Metadata.Labels[name] != value {
				return []string{name}
			}
		}
		if d.Replicas < 2 || d.Template.Spec.TerminationGracePeriodSeconds < 30 || rotates(d.Template.Spec) {
			return []string{"replicas or terminationGracePeriodSeconds"}
		}
		return nil
	}},
}

var cronJobRules = []rule[CronJob]{
	{"a rotation is turned on by hand, runs alone, and is repeated by its schedule, or after the loss of its node", func(c CronJob) []string {
		job := c.JobTemplate.Spec
		switch rules := job.PodFailurePolicy.Rules; {
		case !c.Suspend || c.ConcurrencyPolicy != "Forbid" || c.TimeZone == "":
			return []string{"suspend, concurrencyPolicy or timeZone"}
		case job.BackoffLimit == nil || *job.BackoffLimit != 0 || job.ActiveDeadlineSeconds == 0 || job.ActiveDeadlineSeconds >= 24*3600:
			return []string{"backoffLimit or activeDeadlineSeconds"}
		case len(rules) != 1 || rules[0].Action != "Ignore" || len(rules[0].OnPodConditions) != 1 || rules[0].OnPodConditions[0].Type != "DisruptionTarget":
			return []string{"podFailurePolicy"}
		}
		return nil
	}},
	{"a rotation has an age, a login, a service account of its own, and time to complete a change", func(c CronJob) []string {
		p := c.JobTemplate.Spec.Template.Spec
		switch {
		case !rotates(p) || !slices.Equal(p.Containers[0].Args, []string{"rotate", "--max-age", "30d"}) || p.RestartPolicy != "Never":
			return []string{"args or restartPolicy"}
		case p.Containers[0].Setting("SNOWFLAKE_ACCOUNT") == "" || p.Containers[0].Setting("SNOWFLAKE_USER") == "":
			return []string{"no login"}
		case p.ServiceAccountName != "app-rotate":
			return []string{"serviceAccountName"}
		case p.TerminationGracePeriodSeconds < 100: // it gives itself 90 seconds for a change
			return []string{"terminationGracePeriodSeconds"}
		}
		return nil
	}},
}

var accountRules = []rule[Object]{
	{"a service account has no token of the cluster's API, and a role of its own", func(o Object) []string {
		if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
			return []string{"automountServiceAccountToken"}
		}
		role, annotated := o.Metadata.Annotations["eks.amazonaws.com/role-arn"]
		if annotated && (!roleARN.MatchString(role) || !strings.HasSuffix(role, ":role/"+o.Metadata.Name+"-pod")) {
			return []string{role}
		}
		return nil
	}},
}

var networkRules = []rule[NetworkPolicy]{
	{"a pod reaches named ports, and link-local addresses only by a policy for them", func(n NetworkPolicy) (all []string) {
		for _, e := range n.Egress {
			if len(e.To) == 0 || len(e.Ports) == 0 {
				all = append(all, "egress to everything")
			}
			for _, p := range e.Ports {
				if p.Protocol == "" || p.Port == "" {
					all = append(all, "a port without a number")
				}
			}
			for _, to := range e.To {
				if strings.HasSuffix(to.IPBlock.CIDR, "/0") && len(to.IPBlock.Except) == 0 {
					all = append(all, "egress to "+to.IPBlock.CIDR)
				}
			}
		}
		return all
	}},
	{"nothing reaches a pod except from a namespace, at a port", func(n NetworkPolicy) (all []string) {
		for _, i := range n.Ingress {
			for _, from := range i.From {
				if len(from.NamespaceSelector.MatchLabels) == 0 {
					all = append(all, "ingress")
				}
			}
			if len(i.From) == 0 || len(i.Ports) == 0 {
				all = append(all, "ingress of everything")
			}
		}
		return all
	}},
	{"a policy is about the examples' pods", func(n NetworkPolicy) []string {
		labels := n.PodSelector.MatchLabels
		if !maps.Equal(labels, map[string]string{"app.kubernetes.io/part-of": "app"}) && !maps.Equal(labels, map[string]string{"app.kubernetes.io/name": "app"}) {
			return []string{fmt.Sprint(labels)}
		}
		return nil
	}},
}

// A monitored is a PodMonitor, and what is applied with it.
type monitored struct {
	PodMonitor
	in Set
}

var monitorRules = []rule[monitored]{
	{"a PodMonitor finds a port at which a sidecar serves metrics", func(m monitored) []string {
		for _, o := range m.in {
			pod, err := o.Pod()
			if err != nil || pod == nil || pod.Spec.Sidecar() == nil {
				continue
			}
			for name, value := range m.Selector.MatchLabels {
				if pod.Metadata.Labels[name] != value {
					return []string{name}
				}
			}
			sidecar := pod.Spec.Sidecar()
			for _, e := range m.PodMetricsEndpoints {
				for _, p := range sidecar.Ports {
					if e.Port == p.Name && sidecar.Setting("SNOWKEY_METRICS_ADDR") == fmt.Sprintf("0.0.0.0:%d", p.ContainerPort) {
						return nil
					}
				}
			}
		}
		return []string{"none"}
	}},
}
