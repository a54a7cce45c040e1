package taskdef

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A parameter is one of a template's.
type parameter struct {
	Type          string   `yaml:"Type"`
	Default       string   `yaml:"Default"`
	AllowedValues []string `yaml:"AllowedValues"`
}

// readCloudFormation keeps what is known only at deployment as ${NAME}. A condition holds.
func readCloudFormation(text []byte) (*Example, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	var declared struct {
		Parameters map[string]parameter                       `yaml:"Parameters"`
		Mappings   map[string]map[string]map[string]yaml.Node `yaml:"Mappings"`
	}
	if err := root.Decode(&declared); err != nil {
		return nil, err
	}
	if err := (declarations{declared.Parameters, declared.Mappings}).resolve(&root); err != nil {
		return nil, err
	}
	var template struct {
		Resources map[string]struct {
			Type       string         `yaml:"Type"`
			Properties map[string]any `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := root.Decode(&template); err != nil {
		return nil, err
	}
	e := new(Example)
	for name, r := range template.Resources {
		if err := e.add(name, r.Type, r.Properties); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(e.Definitions) == 0 {
		return nil, errors.New("no task definition")
	}
	return e, nil
}

func (e *Example) add(name, kind string, properties map[string]any) error {
	text := func(property string) string { s, _ := properties[property].(string); return s }
	switch kind {
	case "AWS::ECS::TaskDefinition":
		return e.addDefinition(asAPI(properties), "${"+name+"}")
	case "AWS::ECS::Service":
		execute, _ := properties["EnableExecuteCommand"].(bool)
		e.Services = append(e.Services, Service{text("PlatformVersion"), execute})
	case "AWS::IAM::Role":
		return e.addRole(properties)
	case "AWS::Scheduler::Schedule":
		return e.addSchedule(asSchedule(properties))
	case "AWS::Logs::MetricFilter":
		return e.addFilter(text("LogGroupName"), text("FilterPattern"), properties["MetricTransformations"])
	case "AWS::CloudWatch::Alarm":
		e.Alarms = append(e.Alarms, alarm(properties))
	case "AWS::KMS::Key", "AWS::Logs::LogGroup":
	default:
		return fmt.Errorf("%s is not read here", kind)
	}
	return nil
}

func (e *Example) addDefinition(properties any, reference string) error {
	text, err := json.Marshal(properties)
	if err != nil {
		return err
	}
	d, err := decode(text)
	e.Definitions = append(e.Definitions, Definition{d, reference})
	return err
}

func (e *Example) addSchedule(properties any) error {
	text, err := json.Marshal(properties)
	if err != nil {
		return err
	}
	s, err := decodeSchedule(text)
	e.Schedules = append(e.Schedules, s)
	return err
}

func (e *Example) addRole(properties map[string]any) error {
	inline, _ := properties["Policies"].([]any)
	if len(inline) == 0 || properties["ManagedPolicyArns"] != nil {
		return errors.New("a role has policies of its own here, and no managed ones")
	}
	for _, p := range inline {
		if err := e.addPolicy(p.(map[string]any)["PolicyDocument"]); err != nil {
			return err
		}
	}
	return e.addPolicy(properties["AssumeRolePolicyDocument"])
}

// addFilter reads the properties of a metric filter by their names in CloudFormation.
func (e *Example) addFilter(group, pattern string, transformations any) error {
	all, _ := transformations.([]any)
	if len(all) != 1 {
		return errors.New("a metric filter makes one metric here")
	}
	to := all[0].(map[string]any)
	for name := range to {
		if !slices.Contains([]string{"MetricNamespace", "MetricName", "MetricValue"}, name) {
			return fmt.Errorf("%s is not read here", name)
		}
	}
	e.Filters = append(e.Filters, MetricFilter{
		group, pattern, fmt.Sprint(to["MetricNamespace"]), fmt.Sprint(to["MetricName"]), fmt.Sprint(to["MetricValue"]),
	})
	return nil
}

// alarm reads the properties of an alarm by their names in CloudFormation.
func alarm(properties map[string]any) Alarm {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	actions, _ := properties["AlarmActions"].([]any)
	a := Alarm{
		Namespace:          text("Namespace"),
		MetricName:         text("MetricName"),
		Dimensions:         map[string]string{},
		Statistic:          text("Statistic"),
		Period:             number(properties["Period"]),
		EvaluationPeriods:  number(properties["EvaluationPeriods"]),
		ComparisonOperator: text("ComparisonOperator"),
		Threshold:          number(properties["Threshold"]),
		TreatMissingData:   text("TreatMissingData"),
		Actions:            len(actions) > 0,
	}
	dimensions, _ := properties["Dimensions"].([]any)
	for _, d := range dimensions {
		d := d.(map[string]any)
		a.Dimensions[d["Name"].(string)] = d["Value"].(string)
	}
	return a
}

func number(v any) float64 {
	switch v := v.(type) {
	case int:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func (e *Example) addPolicy(document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	p, err := parsePolicy(text)
	switch {
	case err != nil:
		return err
	case p.trust():
		e.Trusts = append(e.Trusts, p)
	default:
		e.Policies = append(e.Policies, p)
	}
	return nil
}

// declarations are what a template's intrinsic functions refer to.
type declarations struct {
	parameters map[string]parameter
	mappings   map[string]map[string]map[string]yaml.Node
}

// resolve turns the short forms of intrinsic functions into text.
func (d declarations) resolve(n *yaml.Node) error {
	switch n.Tag {
	case "!Ref":
		refer(n, d.parameters[n.Value])
	case "!FindInMap":
		return d.find(n)
	case "!GetAtt":
		n.SetString("${" + n.Value + "}")
	case "!If": // the condition holds
		*n = *n.Content[1]
		return d.resolve(n)
	case "!Sub":
		if n.Kind == yaml.ScalarNode {
			n.SetString(n.Value)
			break
		}
		n.Tag = "!!seq" // used in outputs alone
	case "!Equals", "!Not", "!Join":
		n.Tag = "!!seq" // used in conditions and outputs alone
	default:
		if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
			return fmt.Errorf("line %d: %s is not read here", n.Line, n.Tag)
		}
	}
	for _, child := range n.Content {
		if err := d.resolve(child); err != nil {
			return err
		}
	}
	return nil
}

// find replaces !FindInMap [MAP, FIRST, SECOND] by its value.
func (d declarations) find(n *yaml.Node) error {
	var names []string
	for _, child := range n.Content {
		if err := d.resolve(child); err != nil {
			return err
		}
		names = append(names, child.Value)
	}
	if len(names) != 3 {
		return fmt.Errorf("line %d: !FindInMap takes three names", n.Line)
	}
	value, found := d.mappings[names[0]][names[1]][names[2]]
	if !found {
		return fmt.Errorf("line %d: no %s in the mappings", n.Line, strings.Join(names, "."))
	}
	*n = value
	return nil
}

// refer replaces a reference by a placeholder, in a list if p is one. A parameter with allowed values is its default.
func refer(n *yaml.Node, p parameter) {
	placeholder := "${" + n.Value + "}"
	switch {
	case len(p.AllowedValues) > 0:
		n.SetString(p.Default)
	case strings.HasPrefix(p.Type, "List<"):
		var one yaml.Node
		one.SetString(placeholder)
		*n = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{&one}}
	default:
		n.SetString(placeholder)
	}
}

// asSchedule gives the properties the names that they have in the API of EventBridge Scheduler. Only one differs.
func asSchedule(v any) any {
	properties, ok := v.(map[string]any)
	if !ok {
		return v
	}
	all := map[string]any{}
	for name, value := range properties {
		if name == "AwsvpcConfiguration" {
			name = "awsvpcConfiguration"
		}
		all[name] = asSchedule(value)
	}
	return all
}

// asAPI gives properties the names that they have in the ECS API, whose first letter is small. The keys of
// maps are the user's own.
func asAPI(v any) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i, element := range v {
			all[i] = asAPI(element)
		}
		return all
	case map[string]any:
		all := map[string]any{}
		for name, value := range v {
			if !slices.Contains([]string{"Options", "DriverOpts", "DockerLabels", "Labels"}, name) {
				value = asAPI(value)
			}
			all[strings.ToLower(name[:1])+name[1:]] = value
		}
		return all
	}
	return v
}
