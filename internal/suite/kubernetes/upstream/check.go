package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// strategies are what an API server does when an object is created.
var strategies = map[schema.GroupKind]rest.RESTCreateStrategy{
	{Kind: "Namespace"}:                                       namespace.Strategy,
	{Kind: "ConfigMap"}:                                       configmap.Strategy,
	{Kind: "Pod"}:                                             pod.Strategy,
	{Kind: "ServiceAccount"}:                                  serviceaccount.Strategy,
	{Group: "apps", Kind: "Deployment"}:                       deployment.Strategy,
	{Group: "batch", Kind: "CronJob"}:                         cronjob.Strategy,
	{Group: "batch", Kind: "Job"}:                             job.Strategy,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:       networkpolicy.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:        role.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}: rolebinding.Strategy,
}

var (
	strict   = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
	security = newEvaluator()
)

func newEvaluator() policy.Evaluator {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err)
	}
	return evaluator
}

// documents are the objects in a file.
func documents(text string) (objects [][]byte, err error) {
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(part), &content); err != nil {
			return nil, err
		}
		if content == nil {
			continue // comments
		}
		objects = append(objects, []byte(strings.TrimSpace(part)+"\n"))
	}
	if objects == nil {
		return nil, errors.New("there is no object in it")
	}
	return objects, nil
}

// check returns an error that begins with the object's kind and name.
func check(object []byte) error {
	var about struct {
		APIVersion string
		Kind       string
		Metadata   struct{ Name string }
	}
	if err := yaml.Unmarshal(object, &about); err != nil {
		return err
	}
	var err error
	if about.APIVersion == monitoring.SchemeGroupVersion.String() && about.Kind == monitoring.PodMonitorsKind {
		err = yaml.UnmarshalStrict(object, &monitoring.PodMonitor{})
	} else {
		err = checkBuiltIn(object)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", about.Kind, about.Metadata.Name, err)
	}
	return nil
}

// checkBuiltIn is for kinds that an API server has without extensions.
func checkBuiltIn(object []byte) error {
	versioned, kind, err := strict.UniversalDeserializer().Decode(object, nil, nil)
	if err != nil {
		return err
	}
	strategy, ok := strategies[kind.GroupKind()]
	if !ok {
		return fmt.Errorf("no strategy for %s: add it to internal/suite/kubernetes/upstream/check.go", kind.GroupKind())
	}
	legacyscheme.Scheme.Default(versioned)
	version := schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal}
	internal, err := legacyscheme.Scheme.ConvertToVersion(versioned, version)
	if err != nil {
		return err
	}
	return errors.Join(create(strategy, kind, internal), checkPodSecurity(versioned))
}

// create runs what an API server runs up to storage. Its warnings are errors here.
func create(strategy rest.RESTCreateStrategy, kind *schema.GroupVersionKind, object runtime.Object) error {
	about, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	if strategy.NamespaceScoped() && about.GetNamespace() == "" {
		about.SetNamespace("default")
	}
	plural, _ := meta.UnsafeGuessKindToResource(*kind)
	ctx := genericapirequest.WithNamespace(context.Background(), about.GetNamespace())
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		APIGroup: kind.Group, APIVersion: kind.Version, Resource: plural.Resource, Namespace: about.GetNamespace(),
		Verb: "create",
	})
	var warnings warningErrors
	ctx = warning.WithWarningRecorder(ctx, &warnings)
	rest.FillObjectMetaSystemFields(about)
	return errors.Join(rest.BeforeCreate(strategy, ctx, object), errors.Join(warnings...))
}

type warningErrors []error

func (w *warningErrors) AddWarning(_, text string) {
	*w = append(*w, errors.New("warning: "+text))
}

// checkPodSecurity holds pods to the restricted standard, as a namespace with that label does.
func checkPodSecurity(object runtime.Object) error {
	template := templateOf(object)
	if template == nil {
		return nil
	}
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	result := policy.AggregateCheckResults(security.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec))
	if !result.Allowed {
		return fmt.Errorf("not restricted: %s: %s", result.ForbiddenReason(), result.ForbiddenDetail())
	}
	return nil
}

// templateOf is nil for what makes no pods.
func templateOf(object runtime.Object) *corev1.PodTemplateSpec {
	switch o := object.(type) {
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	default:
		return nil
	}
}
