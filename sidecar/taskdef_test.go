package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/snowkey/snowkey/internal/suite/taskdef"
	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// The sidecar takes the environment that each example gives it: its variables are known, their values are
// valid and do not contradict each other. The health check sees the same variables.
func TestTaskDefinitions_AreValidSettings(t *testing.T) {
	examples := os.DirFS("../examples/taskdef")
	for _, name := range []string{
		"fargate.json", "fargate-memory.json", "fargate-exec.json", "ec2-tmpfs.json", "env-injection.json", "cloudformation.yaml", "terraform",
	} {
		e, err := taskdef.Read(examples, name)
		if err != nil {
			t.Fatal(err)
		}
		sidecars := 0
		for _, c := range containers(e) {
			environ := environment(c)
			if rotates(c) || !hasVariable(environ, config.Prefix) && !hasVariable(environ, "SECRET_KEY=") {
				continue
			}
			sidecars++
			if err := loadSettings(environ); err != nil {
				t.Errorf("%s: %s: %v", name, aws.ToString(c.Name), err)
			}
			if loadSettings(append(environ, "SNOWKEY_KEY_PARAMETR=/app/key")) == nil {
				t.Errorf("%s: a variable that does not exist was not noticed", name)
			}
		}
		if sidecars != 1 {
			t.Errorf("%s: %d containers have settings of the sidecar", name, sidecars)
		}
	}
}

// rotate takes the command and the environment of the examples that run it, and the commands that replace it by hand.
func TestTaskDefinitions_RotationIsValidSettings(t *testing.T) {
	for _, name := range []string{"rotate.json", "cloudformation.yaml", "terraform"} {
		e, err := taskdef.Read(os.DirFS("../examples/taskdef"), name)
		if err != nil {
			t.Fatal(err)
		}
		rotations := slices.DeleteFunc(containers(e), func(c types.ContainerDefinition) bool { return !rotates(c) })
		if len(rotations) != 1 {
			t.Fatalf("%s has %d rotations", name, len(rotations))
		}
		c := rotations[0]
		own := []string{c.Command[0], c.Command[1], days.ReplaceAllString(c.Command[2], "30")}
		for _, command := range [][]string{own, {"rotate", "--force-new", "--no-wait"}, {"rotate", "--finish", "--revoke-old"}} {
			cmd := rotateCommand(nil)
			if command[0] != cmd.Name() {
				t.Fatalf("%s: command %v", name, command)
			}
			if err := cmd.ParseFlags(command[1:]); err != nil {
				t.Fatal(err)
			}
			if err := config.Load(new(config.RotateConfig), cmd.Flags(), environment(c)); err != nil {
				t.Errorf("%s: %v: %v", name, command, err)
			}
			if err := config.Load(new(config.RotateConfig), cmd.Flags(), append(environment(c), "SNOWKEY_KEY_PARAMETR=/app/key")); err == nil {
				t.Errorf("%s: a variable that does not exist was not noticed", name)
			}
		}
	}
}

// containers are those of all task definitions of an example.
func containers(e *taskdef.Example) []types.ContainerDefinition {
	var all []types.ContainerDefinition
	for _, d := range e.Definitions {
		all = append(all, d.ContainerDefinitions...)
	}
	return all
}

func rotates(c types.ContainerDefinition) bool { return len(c.Command) > 0 && c.Command[0] == "rotate" }

// A dashboard or an alarm on a metric that does not exist stays green for ever.
func TestDashboards_UseMetricsThatExist(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.env["SNOWKEY_EMF"] = "app"
	k.env["SNOWKEY_METRICS_ADDR"] = freeAddress(t)
	run := k.run()
	run.eventually("metrics in the log", func() bool { return run.count("metrics") > 0 })
	written := map[string]any{}
	for text := range strings.Lines(run.stderr.String()) {
		if strings.Contains(text, `"_aws"`) {
			k.must(json.Unmarshal([]byte(text), &written))
		}
	}
	if written["Service"] != "app" || written["RefreshesSucceeded"] != 1.0 || written["KeysPublished"] != 1.0 {
		t.Errorf("written is %v", written)
	}
	number := func(where, name string) {
		if _, ok := written[name].(float64); !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
	for _, name := range []string{"cloudformation.yaml", "terraform"} {
		e, err := taskdef.Read(os.DirFS("../examples/taskdef"), name)
		k.must(err)
		for _, a := range slices.DeleteFunc(e.Alarms, e.Counted) {
			number(name, a.MetricName)
		}
	}
	_, served := run.get("/metrics")
	cloudwatch, grafana := content(t, "../docs/dashboards/cloudwatch.json"), content(t, "../docs/dashboards/grafana.json")
	for _, text := range []string{cloudwatch, grafana} {
		if !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %s", text)
		}
	}
	inDashboard := regexp.MustCompile(`"Snowkey", "(\w+)"`).FindAllStringSubmatch(cloudwatch, -1)
	for _, m := range inDashboard {
		number("cloudwatch.json", m[1])
	}
	used := regexp.MustCompile(`snowkey_\w+`).FindAllString(grafana, -1)
	for _, name := range used {
		if !strings.Contains(served, "\n"+name+" ") && !strings.Contains(served, "\n"+name+"{") {
			t.Errorf("grafana.json: there is no metric %s", name)
		}
	}
	if len(inDashboard) < 6 || len(used) < 5 {
		t.Errorf("%d metrics in cloudwatch.json and %d in grafana.json", len(inDashboard), len(used))
	}
}

func loadSettings(environ []string) error {
	if err := config.Load(new(config.RunConfig), runCommand(nil).Flags(), environ); err != nil {
		return err
	}
	err := config.Load(new(config.HealthcheckConfig), healthcheckCommand(nil).Flags(), environ)
	return err
}

// Known only at deployment: a placeholder becomes a name that a parameter or Snowflake can have, or a number.
var (
	placeholder = regexp.MustCompile(`\$\{([A-Za-z_.:]+)\}`)
	days        = regexp.MustCompile(`^\$\{\w+\}`)
)

func environment(c types.ContainerDefinition) []string {
	var all []string
	for _, v := range c.Environment {
		name, value := aws.ToString(v.Name), "/$1"
		if strings.HasPrefix(name, "SNOWFLAKE_") {
			value = "X"
		}
		all = append(all, name+"="+placeholder.ReplaceAllString(aws.ToString(v.Value), value))
	}
	for _, s := range c.Secrets {
		all = append(all, aws.ToString(s.Name)+"=-----BEGIN ENCRYPTED PRIVATE KEY-----")
	}
	return all
}

func hasVariable(environ []string, prefix string) bool {
	for _, v := range environ {
		if strings.HasPrefix(v, prefix) {
			return true
		}
	}
	return false
}
