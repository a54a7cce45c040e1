// Package taskdef reads the examples in examples/taskdef, written for the ECS API, CloudFormation or
// Terraform, into the ECS API's own types, and says which of our rules they break: what ECS accepts and
// linters let pass, but what leaves a task without its key, or its key to others.
//
// It is for tests. It never talks to AWS, and it reads the part of CloudFormation and Terraform that the
// examples use, not all of either: what it does not know is an error.
package taskdef

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
)

// A Definition is what aws ecs register-task-definition takes.
type Definition struct {
	*ecs.RegisterTaskDefinitionInput
	Reference string // stands for its ARN in the rest of the example; "" in JSON
}

// A Schedule is what aws scheduler create-schedule takes.
type Schedule = scheduler.CreateScheduleInput

// An Example is one file, or one directory of Terraform. Resources that a parameter switches on are read as if they
// were on.
type Example struct {
	Name        string
	Definitions []Definition
	Policies    []Policy
	Trusts      []Policy // those that say who may assume a role
	Services    []Service
	Schedules   []*Schedule
	Filters     []MetricFilter
	Alarms      []Alarm
}

// A Service is what matters to us of an ECS service.
type Service struct {
	PlatformVersion string
	ExecuteCommand  bool
}

// A MetricFilter makes a metric of the lines in a log group that match its pattern.
type MetricFilter struct {
	LogGroup  string
	Pattern   string
	Namespace string
	Name      string // of the metric
	Value     string
}

// An Alarm is one of CloudWatch on one metric, as the API names its parts. A number that is known only at
// deployment is 0.
type Alarm struct {
	Namespace          string
	MetricName         string
	Dimensions         map[string]string
	Statistic          string
	Period             float64
	EvaluationPeriods  float64
	ComparisonOperator string
	Threshold          float64
	TreatMissingData   string
	Actions            bool // a topic is notified, if one is given
}

// Counted reports whether a metric filter of the example makes the metric of the alarm.
func (e *Example) Counted(a Alarm) bool {
	return slices.ContainsFunc(e.Filters, func(f MetricFilter) bool {
		return a.Namespace == f.Namespace && a.MetricName == f.Name && len(a.Dimensions) == 0
	})
}

// Read reads the file or directory of this name.
func Read(examples fs.FS, name string) (*Example, error) {
	e, err := read(examples, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	e.Name = name
	return e, nil
}

func read(examples fs.FS, name string) (*Example, error) {
	info, err := fs.Stat(examples, name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readTerraform(examples, name)
	}
	text, err := fs.ReadFile(examples, name)
	if err != nil {
		return nil, err
	}
	switch path.Ext(name) {
	case ".json":
		return readJSON(text)
	case ".yaml":
		return readCloudFormation(text)
	}
	return nil, errors.New("neither .json nor .yaml nor a directory")
}

// readJSON reads what the AWS CLI takes: a task definition, a schedule, or a policy.
func readJSON(text []byte) (*Example, error) {
	if isPolicy(text) {
		p, err := parsePolicy(text)
		return &Example{Policies: []Policy{p}}, err
	}
	if isSchedule(text) {
		s, err := decodeSchedule(text)
		return &Example{Schedules: []*Schedule{s}}, err
	}
	d, err := decode(text)
	return &Example{Definitions: []Definition{{RegisterTaskDefinitionInput: d}}}, err
}
