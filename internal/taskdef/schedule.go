package taskdef

import (
	"context"
	"encoding/json"
	"fmt"
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

var scheduleRules = []rule[*Schedule]{
	{"a schedule runs one task of a family, on the newest platform version, with an address of its own alone", func(s *Schedule) []string {
		e := s.Target.EcsParameters
		switch {
		case e == nil || aws.ToInt32(e.TaskCount) != 1:
			return []string{"not one task"}
		case aws.ToString(e.PlatformVersion) != "LATEST":
			return []string{"platform version"}
		case strings.Count(aws.ToString(e.TaskDefinitionArn), ":") != 5:
			return []string{"it names a revision, which the next registration leaves behind"}
		case e.NetworkConfiguration == nil || e.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp != types.AssignPublicIpDisabled:
			return []string{"a public address"}
		case e.EnableExecuteCommand != nil && *e.EnableExecuteCommand:
			return []string{"execute command is on"}
		}
		return nil
	}},
	{"what a schedule puts in place of a command is one of rotate's", func(s *Schedule) []string {
		if s.Target.Input == nil {
			return nil
		}
		var in struct {
			ContainerOverrides []struct {
				Name    string
				Command []string
			} `json:"containerOverrides"`
		}
		if err := decodeStrictly([]byte(*s.Target.Input), &in); err != nil || len(in.ContainerOverrides) != 1 {
			return []string{"Input is not what RunTask takes for one container"}
		}
		if o := in.ContainerOverrides[0]; o.Name != "rotate" || !slices.Equal(o.Command, []string{"rotate", "--finish"}) {
			return []string{fmt.Sprintf("%s: %v", o.Name, o.Command)}
		}
		return nil
	}},
}
