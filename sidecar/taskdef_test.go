package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/snowkey/snowkey/internal/taskdef"
	"github.com/snowkey/snowkey/sidecar/internal/config"
)

// The sidecar takes the environment that each example gives it: its variables are known, their values are
// valid and do not contradict each other. The health check sees the same variables.
func TestTaskDefinitions_AreValidSettings(t *testing.T) {
	examples := os.DirFS("../examples/taskdef")
	for _, name := range []string{
		"fargate.json", "fargate-exec.json", "ec2-tmpfs.json", "env-injection.json", "cloudformation.yaml", "terraform",
	} {
		e, err := taskdef.Read(examples, name)
		if err != nil {
			t.Fatal(err)
		}
		sidecars := 0
		for _, c := range e.Definition.ContainerDefinitions {
			environ := environment(c)
			if !hasVariable(environ, config.Prefix) && !hasVariable(environ, "SECRET_KEY=") {
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

// rotate takes the environment of the example that runs it.
func TestTaskDefinitions_RotationIsValidSettings(t *testing.T) {
	e, err := taskdef.Read(os.DirFS("../examples/taskdef"), "rotate.json")
	if err != nil {
		t.Fatal(err)
	}
	c := e.Definition.ContainerDefinitions[0]
	for _, command := range [][]string{c.Command, {"rotate", "--finish"}} {
		cmd := rotateCommand(nil)
		if command[0] != cmd.Name() {
			t.Fatalf("command %v", command)
		}
		if err := cmd.ParseFlags(command[1:]); err != nil {
			t.Fatal(err)
		}
		if err := config.Load(new(config.RotateConfig), cmd.Flags(), environment(c)); err != nil {
			t.Error(err)
		}
		if err := config.Load(new(config.RotateConfig), cmd.Flags(), append(environment(c), "SNOWKEY_KEY_PARAMETR=/app/key")); err == nil {
			t.Error("a variable that does not exist was not noticed")
		}
	}
}

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
		for _, a := range e.Alarms {
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

// known only at deployment: such a name becomes one that a parameter can have.
var placeholder = regexp.MustCompile(`\$\{([A-Za-z_.:]+)\}`)

func environment(c types.ContainerDefinition) []string {
	var all []string
	for _, v := range c.Environment {
		all = append(all, aws.ToString(v.Name)+"="+placeholder.ReplaceAllString(aws.ToString(v.Value), "/$1"))
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
