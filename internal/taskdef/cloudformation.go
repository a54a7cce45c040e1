package taskdef

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readCloudFormation keeps what is known only at deployment as ${NAME}.
func readCloudFormation(text []byte) (*Example, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	var template struct {
		Resources map[string]struct {
			Type       string         `yaml:"Type"`
			Properties map[string]any `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := resolve(&root); err != nil {
		return nil, err
	}
	if err := root.Decode(&template); err != nil {
		return nil, err
	}
	e := new(Example)
	for name, r := range template.Resources {
		if err := e.add(r.Type, r.Properties); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if e.Definition == nil {
		return nil, errors.New("no task definition")
	}
	return e, nil
}

func (e *Example) add(kind string, properties map[string]any) error {
	switch kind {
	case "AWS::ECS::TaskDefinition":
		text, err := json.Marshal(asAPI(properties))
		if err != nil {
			return err
		}
		e.Definition, err = decode(text)
		return err
	case "AWS::ECS::Service":
		version, _ := properties["PlatformVersion"].(string)
		execute, _ := properties["EnableExecuteCommand"].(bool)
		e.Services = append(e.Services, Service{version, execute})
	case "AWS::IAM::Role":
		inline, _ := properties["Policies"].([]any)
		for _, p := range inline {
			if err := e.addPolicy(p.(map[string]any)["PolicyDocument"]); err != nil {
				return err
			}
		}
		if len(inline) == 0 || properties["ManagedPolicyArns"] != nil {
			return errors.New("a role has policies of its own here, and no managed ones")
		}
	case "AWS::CloudWatch::Alarm":
		e.Alarms = append(e.Alarms, alarm(properties))
	case "AWS::KMS::Key", "AWS::Logs::LogGroup":
	default:
		return fmt.Errorf("%s is not read here", kind)
	}
	return nil
}

// alarm reads the properties of an alarm by their names in CloudFormation.
func alarm(properties map[string]any) Alarm {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	a := Alarm{
		Namespace:          text("Namespace"),
		MetricName:         text("MetricName"),
		Dimensions:         map[string]string{},
		Statistic:          text("Statistic"),
		Period:             number(properties["Period"]),
		EvaluationPeriods:  number(properties["EvaluationPeriods"]),
		ComparisonOperator: text("ComparisonOperator"),
		TreatMissingData:   text("TreatMissingData"),
		Actions:            properties["AlarmActions"] != nil,
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
	if err == nil && !p.trust() {
		e.Policies = append(e.Policies, p)
	}
	return err
}

// resolve turns the short forms of intrinsic functions into text.
func resolve(n *yaml.Node) error {
	switch n.Tag {
	case "!Ref", "!GetAtt":
		n.SetString("${" + n.Value + "}")
	case "!Sub":
		n.SetString(n.Value)
	case "!Equals", "!Not", "!If":
		n.Tag = "!!seq" // conditions are for the deployment
	default:
		if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
			return fmt.Errorf("line %d: %s is not read here", n.Line, n.Tag)
		}
	}
	for _, child := range n.Content {
		if err := resolve(child); err != nil {
			return err
		}
	}
	return nil
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
