package manifests

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snowkey/snowkey/internal/suite/taskdef"
)

const examples = "../../../examples/kubernetes"

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func read(t *testing.T, text string) Set {
	t.Helper()
	all, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// base is what base/kustomization.yaml names.
func base(t *testing.T) Set {
	t.Helper()
	var all Set
	for _, name := range kustomization(t, "base").Resources {
		all = append(all, read(t, content(t, "base/"+name))...)
	}
	return all
}

// A kustomized directory has a kustomization.yaml.
type kustomized struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Namespace  string
	Resources  []string
	Components []string
	Patches    []struct{ Path string }
}

func kustomization(t *testing.T, directory string) kustomized {
	t.Helper()
	var k kustomized
	if err := decoderOf([]byte(content(t, directory+"/kustomization.yaml"))).Decode(&k); err != nil {
		t.Fatalf("%s: %v", directory, err)
	}
	return k
}

func expectNone(t *testing.T, s Set) {
	t.Helper()
	found, err := s.Broken()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range found {
		t.Error(b)
	}
}

func TestBase_FollowsTheRules(t *testing.T) {
	all := base(t)
	expectNone(t, all)
	var kinds []string
	for _, o := range all {
		kinds = append(kinds, o.Kind)
	}
	if want := []string{"Namespace", "ServiceAccount", "ServiceAccount", "Deployment", "CronJob", "NetworkPolicy"}; !slices.Equal(kinds, want) {
		t.Errorf("base has %v, want %v", kinds, want)
	}
}

func TestPod_IsThatOfTheDeployment(t *testing.T) {
	alone := read(t, content(t, "pod.yaml"))
	expectNone(t, alone)
	pod, err := alone[0].Pod()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range base(t) {
		if o.Kind != "Deployment" {
			continue
		}
		template, err := o.Pod()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(pod.Spec, template.Spec) || !maps.Equal(pod.Metadata.Labels, template.Metadata.Labels) ||
			!maps.Equal(pod.Metadata.Annotations, template.Metadata.Annotations) {
			t.Errorf("the pod is\n%+v\nand the Deployment's\n%+v", pod, template)
		}
	}
}

// Each rule is broken once, so that none is a rule that cannot be broken.
func TestRules_CanBeBroken(t *testing.T) {
	const drop = ""
	broken := map[string]bool{}
	for _, tc := range []struct{ file, old, new, rule string }{
		{"deployment", "runAsNonRoot: true", "runAsNonRoot: false", "a pod runs as"},
		{"deployment", "type: RuntimeDefault", "type: Unconfined", "a pod runs as"},
		{"deployment", "runAsUser: 65532", "runAsUser: 0", "a pod runs as"},
		{"deployment", "        fsGroup: 65532\n", drop, "a pod runs as"},
		{"deployment", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "a pod has a service account"},
		{"rotate", "          serviceAccountName: app-rotate\n", drop, "a pod has a service account"},
		{"deployment", "enableServiceLinks: false", "enableServiceLinks: true", "a pod has no variables of Services"},
		{"deployment", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "a container cannot gain"},
		{"deployment", "            readOnlyRootFilesystem: true\n", drop, "a container cannot gain"},
		{"rotate", "drop: [ALL]", "drop: [NET_RAW]", "a container cannot gain"},
		{"deployment", "limits:\n              memory: 64Mi", "limits:\n              memory: 128Mi", "a container cannot gain"},
		{"deployment", "/app@sha256:DIGEST", "/app:latest", "an image is named"},
		{"deployment", "name: SNOWFLAKE_USER", "name: PRIVATE_KEY_PASSPHRASE", "no secret"},
		{"deployment", "            - name: AWS_REGION\n              value: REGION\n", drop, "a container that calls AWS"},
		{"deployment", "          restartPolicy: Always # a native sidecar: it starts before the application, and ends after it\n", drop, "one native sidecar"},
		{"deployment", "name: SNOWFLAKE_ACCOUNT", "name: SNOWKEY_KEY_PARAMETER", "one native sidecar"},
		{"deployment", "[/sidecar, healthcheck]", "[/sidecar, version]", "the sidecar's probes"},
		{"deployment", "failureThreshold: 300", "failureThreshold: 30", "the sidecar's probes"},
		{"deployment", "periodSeconds: 30", "periodSeconds: 1", "the sidecar's probes"},
		{"deployment", "livenessProbe: #", "readinessProbe: #", "the sidecar's probes"},
		{"deployment", "medium: Memory\n            sizeLimit: 1Mi", "sizeLimit: 1Mi", "the key is in memory"},
		{"deployment", "sizeLimit: 1Mi", "sizeLimit: 1Gi", "the key is in memory"},
		{"deployment", "name: SNOWKEY_REQUIRE_TMPFS", "name: SNOWKEY_VERIFY", "the key is in memory"},
		{"deployment", "              readOnly: true\n", drop, "a reader mounts"},
		{"deployment", "rsa_key.pem", "rsa_key.der", "a reader mounts"},
		{"deployment", "mountPath: /tmp", "mountPath: /tmp\n            - name: none\n              mountPath: /none", "every volume"},
		{"deployment", "            - name: tmp\n              mountPath: /tmp\n", drop, "every volume"},
		{"deployment", "skip-containers: app", "skip-containers: sidecar", "only the sidecar has the role"},
		{"deployment", "matchLabels:\n      app.kubernetes.io/name: app", "matchLabels:\n      app.kubernetes.io/name: other", "a Deployment finds"},
		{"deployment", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 4", "a Deployment finds"},
		{"rotate", "suspend: true", "suspend: false", "a rotation is turned on"},
		{"rotate", "Forbid", "Allow", "a rotation is turned on"},
		{"rotate", "backoffLimit: 0", "backoffLimit: 6", "a rotation is turned on"},
		{"rotate", "type: DisruptionTarget", "type: Ready", "a rotation is turned on"},
		{"rotate", "30d", "1d", "a rotation has an age"},
		{"rotate", "serviceAccountName: app-rotate", "serviceAccountName: app", "a rotation has an age"},
		{"rotate", "terminationGracePeriodSeconds: 120", "terminationGracePeriodSeconds: 30", "a rotation has an age"},
		{"rotate", "name: SNOWFLAKE_USER", "name: SNOWFLAKE_ROLE", "a rotation has an age"},
		{"serviceaccounts", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "a service account has no token"},
		{"serviceaccounts", "name: app\n", "name: app\n  annotations:\n    eks.amazonaws.com/role-arn: arn:aws:iam::ACCOUNT:role/*\n", "a service account has no token"},
		{"networkpolicy", "            except: [169.254.0.0/16]\n", drop, "a pod reaches named ports"},
		{"networkpolicy", "          port: 443\n", drop, "a pod reaches named ports"},
		{"networkpolicy", "part-of: app", "part-of: other", "a policy is about"},
		{"networkpolicy", "  egress:\n", "  ingress:\n    - ports:\n        - protocol: TCP\n          port: 443\n  egress:\n", "nothing reaches a pod"},
	} {
		text := content(t, "base/"+tc.file+".yaml")
		if !strings.Contains(text, tc.old) {
			t.Errorf("%s has no %q", tc.file, tc.old)
			continue
		}
		found, err := read(t, strings.ReplaceAll(text, tc.old, tc.new)).Broken()
		if err != nil || !slices.ContainsFunc(found, func(b string) bool { return strings.Contains(b, ": "+tc.rule) }) {
			t.Errorf("%q for %q breaks %q, %v, want %q", tc.new, tc.old, found, err, tc.rule)
		}
		broken[tc.rule] = true
	}
	monitor := "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: x}\nspec: {podMetricsEndpoints: [{port: metrics}]}\n"
	if found, err := append(read(t, content(t, "pod.yaml")), read(t, monitor)...).Broken(); err != nil || len(found) != 1 {
		t.Errorf("a PodMonitor of no port breaks %q, %v", found, err)
	}
	if rules := len(podRules) + len(deploymentRules) + len(cronJobRules) + len(accountRules) + len(networkRules); len(broken) != rules {
		t.Errorf("%d of %d rules were broken", len(broken), rules)
	}
}

func TestRead_UnknownFieldsAreErrors(t *testing.T) {
	for _, change := range [][2]string{
		{"startupProbe:", "startProbe:"}, {"emptyDir:", "emptydir:"}, {"medium: Memory", "Medium: Memory"}, {"drop: [ALL]", "remove: [ALL]"}, {"replicas:", "replica:"},
	} {
		text := strings.ReplaceAll(content(t, "base/deployment.yaml"), change[0], change[1])
		if found, err := read(t, text).Broken(); err == nil {
			t.Errorf("%s was read, and breaks %q", change[1], found)
		}
	}
	for _, change := range [][2]string{{"apps/v1", "apps/v1beta1"}, {"kind: Deployment", "kind: StatefulSet"}, {"metadata:\n  name: app", "metadata:\n  nome: app"}} {
		if all, err := Read([]byte(strings.Replace(content(t, "base/deployment.yaml"), change[0], change[1], 1))); err == nil {
			t.Errorf("%s was read: %v", change[1], all)
		}
	}
}

// Each file is named by a kustomization, and each name is a file.
func TestKustomizations_NameWhatIsThere(t *testing.T) {
	directories := []string{"base", "overlays/eks-ec2", "overlays/eks-fargate", "components/podmonitor", "components/openshift"}
	for _, directory := range directories {
		k := kustomization(t, directory)
		component := strings.HasPrefix(directory, "components/")
		switch {
		case component && (k.Kind != "Component" || k.APIVersion != "kustomize.config.k8s.io/v1alpha1" || k.Namespace != ""),
			!component && (k.Kind != "Kustomization" || k.APIVersion != "kustomize.config.k8s.io/v1beta1" || k.Namespace != "app"):
			t.Errorf("%s is a %s of %s, in %q", directory, k.Kind, k.APIVersion, k.Namespace)
		}
		named := []string{"kustomization.yaml"}
		for _, p := range k.Patches {
			named = append(named, p.Path)
		}
		for _, r := range append(k.Resources, k.Components...) {
			if _, err := os.Stat(filepath.Join(examples, directory, r)); err != nil {
				t.Errorf("%s: %v", directory, err)
			}
			named = append(named, r)
		}
		files, err := filepath.Glob(filepath.Join(examples, directory, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !slices.Contains(named, filepath.Base(f)) {
				t.Errorf("%s is named by no kustomization", f)
			}
		}
	}
	found, err := filepath.Glob(filepath.Join(examples, "*/*/kustomization.yaml"))
	if err != nil || len(found) != len(directories)-1 {
		t.Errorf("there are %v, %v", found, err)
	}
}

// A trust policy names one service account of one cluster, and nothing is left open.
func TestTrustPolicies_AreExact(t *testing.T) {
	const provider = "oidc.eks.REGION.amazonaws.com/id/OIDC_ID"
	for _, account := range []string{"app", "app-rotate"} {
		suffix := strings.TrimPrefix(account, "app")
		for name, want := range map[string]string{
			"trust-pod-identity" + suffix + ".json": fmt.Sprint("Allow", map[string]any{"Service": "pods.eks.amazonaws.com"}, []string{"sts:AssumeRole", "sts:TagSession"},
				map[string]map[string][]string{"StringEquals": {
					"aws:RequestTag/eks-cluster-arn":            {"arn:aws:eks:REGION:ACCOUNT:cluster/CLUSTER"},
					"aws:RequestTag/kubernetes-namespace":       {"app"},
					"aws:RequestTag/kubernetes-service-account": {account},
				}}),
			"trust-irsa" + suffix + ".json": fmt.Sprint("Allow", map[string]any{"Federated": "arn:aws:iam::ACCOUNT:oidc-provider/" + provider}, []string{"sts:AssumeRoleWithWebIdentity"},
				map[string]map[string][]string{"StringEquals": {
					provider + ":sub": {"system:serviceaccount:app:" + account},
					provider + ":aud": {"sts.amazonaws.com"},
				}}),
		} {
			e, err := taskdef.Read(os.DirFS(filepath.Join(examples, "iam")), name)
			if err != nil {
				t.Error(err)
				continue
			}
			statements := e.Policies[0].Statement
			if len(statements) != 1 {
				t.Errorf("%s has %d statements", name, len(statements))
			}
			s := statements[0]
			if got := fmt.Sprint(s.Effect, s.Principal, s.Action, s.Condition); got != want || len(s.Resource) > 0 {
				t.Errorf("%s allows\n%s\nwant\n%s", name, got, want)
			}
			if strings.Contains(content(t, "iam/"+name), "*") {
				t.Errorf("%s has a star", name)
			}
		}
	}
	if found, err := filepath.Glob(filepath.Join(examples, "iam", "*")); err != nil || len(found) != 4 {
		t.Errorf("iam has %v, %v", found, err)
	}
}

// The roles have the policies of the task roles: the parameters are the same.
func TestParameters_AreThoseOfThePolicies(t *testing.T) {
	for policy, kind := range map[string]string{"task-role-policy.json": "Deployment", "rotate-task-role-policy.json": "CronJob"} {
		e, err := taskdef.Read(os.DirFS("../../../examples/taskdef"), policy)
		if err != nil {
			t.Fatal(err)
		}
		read := slices.Sorted(slices.Values(e.Policies[0].Statement[0].Resource))
		for _, o := range base(t) {
			if o.Kind != kind {
				continue
			}
			pod, err := o.Pod()
			if err != nil {
				t.Fatal(err)
			}
			var named []string
			for _, c := range pod.Spec.All() {
				for _, name := range []string{"SNOWKEY_KEY_PARAMETER", "SNOWKEY_PASSPHRASE_PARAMETER"} {
					if p := c.Setting(name); p != "" {
						named = append(named, "arn:aws:ssm:REGION:ACCOUNT:parameter"+p)
					}
				}
			}
			if !slices.Equal(named, read) {
				t.Errorf("%s %s reads %v, and %s allows %v", kind, o.Metadata.Name, named, policy, read)
			}
		}
	}
}

// builtVariable names a directory with what kustomize has built: a file for each of these.
const builtVariable = "MANIFESTS_BUILT"

// make test-manifests has the real kustomize build them.
func TestBuilt_FollowsTheRules(t *testing.T) {
	directory := os.Getenv(builtVariable)
	if directory == "" {
		t.Skip("make test-manifests builds what this reads")
	}
	for name, check := range map[string]func(*testing.T, Set){
		"eks-ec2": func(t *testing.T, s Set) {
			reaches := slices.ContainsFunc(s, func(o Object) bool {
				var n NetworkPolicy
				return o.Kind == "NetworkPolicy" && o.decode(&n) == nil && n.Egress[0].To[0].IPBlock.CIDR == "169.254.170.23/32" && n.Egress[0].Ports[0].Port == "80"
			})
			if !reaches {
				t.Error("no way to the Pod Identity Agent")
			}
		},
		"eks-fargate": func(t *testing.T, s Set) {
			for _, o := range s {
				if o.Kind == "ServiceAccount" && o.Metadata.Annotations["eks.amazonaws.com/role-arn"] != "arn:aws:iam::ACCOUNT:role/"+o.Metadata.Name+"-pod" {
					t.Errorf("%s has no role", o.Metadata.Name)
				}
				pod, err := o.Pod()
				if err != nil || pod == nil {
					continue
				}
				for _, c := range pod.Spec.All() {
					if !maps.Equal(c.Resources.Requests, c.Resources.Limits) {
						t.Errorf("%s: Fargate takes no other requests than the limits: %v", c.Name, c.Resources)
					}
				}
			}
		},
		"podmonitor": func(t *testing.T, s Set) {
			if !slices.ContainsFunc(s, func(o Object) bool { return o.Kind == "PodMonitor" }) {
				t.Error("no PodMonitor")
			}
		},
		"openshift": func(t *testing.T, s Set) {
			for _, o := range s {
				if pod, err := o.Pod(); err == nil && pod != nil {
					if c := pod.Spec.SecurityContext; c.RunAsUser != nil || c.RunAsGroup != nil || c.FSGroup != nil || !c.RunAsNonRoot {
						t.Errorf("%s: %+v", o.Metadata.Name, c)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(directory, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			all := read(t, string(text))
			expectNone(t, all)
			for _, o := range all {
				if o.Kind != "Namespace" && o.Metadata.Namespace != "app" {
					t.Errorf("%s %s is in namespace %q", o.Kind, o.Metadata.Name, o.Metadata.Namespace)
				}
			}
			check(t, all)
		})
	}
}

// The examples are YAML of one meaning: no name twice, and no word that is a truth value to one reader and a text to another.
func TestFiles_AreYAML(t *testing.T) {
	read := 0
	err := filepath.WalkDir(examples, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		for part := range strings.SplitSeq(string(text), "\n---\n") {
			var fields map[string]any
			if err := yaml.Unmarshal([]byte(part), &fields); err != nil || fields["kind"] == nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || read < 15 {
		t.Errorf("%d files, %v", read, err)
	}
}
