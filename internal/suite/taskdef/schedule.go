package taskdef

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
)

func isSchedule(text []byte) bool {
	var s struct{ ScheduleExpression any }
	return json.Unmarshal(text, &s) == nil && s.ScheduleExpression != nil
}

// decodeSchedule holds a schedule to the model of EventBridge Scheduler, as decode does a definition to ECS's.
func decodeSchedule(text []byte) (*Schedule, error) {
	s := new(Schedule)
	if err := decodeStrictly(text, s); err != nil {
		return nil, fmt.Errorf("not what EventBridge Scheduler takes: %w", err)
	}
	sent, err := caught(func(catch aws.Config) error {
		_, err := scheduler.NewFromConfig(catch).CreateSchedule(context.Background(), s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("not what EventBridge Scheduler takes: %w", err)
	}
	return s, sameSchedule(text, sent, aws.ToString(s.Name))
}

// sameSchedule is sameJSON for an API whose name of the schedule is in the address, and which makes up a token.
func sameSchedule(written, sent []byte, name string) error {
	var body map[string]any
	if err := json.Unmarshal(sent, &body); err != nil {
		return err
	}
	delete(body, "ClientToken")
	body["Name"] = name
	again, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return sameJSON(written, again)
}

// A scheduled is a schedule and the example that it is in.
type scheduled struct {
	*Schedule
	in *Example
}

// daily is an expression of EventBridge Scheduler for one time a day or several.
var daily = regexp.MustCompile(`^cron\(\d+ [\d,]+ \* \* \? \*\)$`)

var scheduleRules = []rule[scheduled]{
	{"a schedule runs one task, on the newest platform version, without a public address", func(s scheduled) []string {
		e := s.Target.EcsParameters
		switch {
		case e == nil || aws.ToInt32(e.TaskCount) != 1:
			return []string{"not one task"}
		case aws.ToString(e.PlatformVersion) != "LATEST":
			return []string{"platform version"}
		case e.NetworkConfiguration == nil || e.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp != types.AssignPublicIpDisabled:
			return []string{"a public address"}
		case e.EnableExecuteCommand != nil && *e.EnableExecuteCommand:
			return []string{"execute command is on"}
		}
		return nil
	}},
	{"a schedule runs the newest revision of a rotation, as it is defined", func(s scheduled) []string {
		e := s.Target.EcsParameters
		switch {
		case e == nil || !s.runsNewest(aws.ToString(e.TaskDefinitionArn)):
			return []string{"it names a revision, which the next registration leaves behind, or another task definition"}
		case s.Target.Input != nil:
			return []string{"it replaces the command"}
		}
		return nil
	}},
	{"a schedule runs a rotation every day", func(s scheduled) []string {
		if expression := aws.ToString(s.ScheduleExpression); !daily.MatchString(expression) || s.State == types.ScheduleStateDisabled {
			return []string{expression}
		}
		return nil
	}},
}

// runsNewest reports whether definition is the newest revision of a rotation: JSON names the family alone, a template
// refers to its own definition.
func (s scheduled) runsNewest(definition string) bool {
	if len(s.in.Definitions) == 0 {
		return strings.Count(definition, ":") == 5
	}
	return slices.ContainsFunc(s.in.Definitions, func(d Definition) bool {
		return definition == d.Reference && len(task{d}.rotators()) == 1
	})
}
