package taskdef

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

var examples = os.DirFS("../../../examples/taskdef")

// names are all examples, so that a new one is read, too.
func names(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(examples, ".")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if path.Ext(e.Name()) != ".md" {
			all = append(all, e.Name())
		}
	}
	return all
}

func TestExamples_AreWhatAWSTakesAndKeepTheRules(t *testing.T) {
	var all Example
	for _, name := range names(t) {
		e := mustRead(t, name)
		for _, broken := range e.Broken() {
			t.Errorf("%s: %s", name, broken)
		}
		all.Definitions = append(all.Definitions, e.Definitions...)
		all.Policies = append(all.Policies, e.Policies...)
		all.Trusts = append(all.Trusts, e.Trusts...)
		all.Schedules = append(all.Schedules, e.Schedules...)
		all.Filters = append(all.Filters, e.Filters...)
		all.Alarms = append(all.Alarms, e.Alarms...)
	}
	got := [6]int{len(all.Definitions), len(all.Policies), len(all.Trusts), len(all.Schedules), len(all.Filters), len(all.Alarms)}
	if want := [6]int{10, 13, 8, 3, 2, 6}; got != want {
		t.Errorf("definitions, policies, trusts, schedules, filters and alarms: %v were read, want %v", got, want)
	}
}

func mustRead(t *testing.T, name string) *Example {
	t.Helper()
	e, err := Read(examples, name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What the templates call things, and the JSON files.
var (
	inCloudFormation = strings.NewReplacer(
		"${ParametersKey.Arn}", "arn:aws:kms:REGION:ACCOUNT:key/KEY_ID",
		"${LogGroup.Arn}", "arn:aws:logs:REGION:ACCOUNT:log-group:/ecs/app:*",
		"${RotateTaskRole.Arn}", "arn:aws:iam::ACCOUNT:role/app-rotate-task",
		"${ExecutionRole.Arn}", "arn:aws:iam::ACCOUNT:role/app-execution",
		"${AWS::Partition}", "aws", "${AWS::Region}", "REGION", "${AWS::AccountId}", "ACCOUNT", "${AWS::StackName}", "app",
		"${KeyParameter}", "/app/key", "${PassphraseParameter}", "/app/passphrase",
		"${SidecarRepository}", "snowkey-sidecar", "${AppRepository}", "app", "${Cluster}", "CLUSTER")
	inTerraform = strings.NewReplacer(
		"${aws_kms_key.parameters.arn}", "arn:aws:kms:REGION:ACCOUNT:key/KEY_ID",
		"${aws_cloudwatch_log_group.task.arn}", "arn:aws:logs:REGION:ACCOUNT:log-group:/ecs/app",
		"${aws_iam_role.rotate_task.0.arn}", "arn:aws:iam::ACCOUNT:role/app-rotate-task",
		"${aws_iam_role.execution.arn}", "arn:aws:iam::ACCOUNT:role/app-execution",
		"${data.aws_partition.current.partition}", "aws", "${var.region}", "REGION",
		"${data.aws_caller_identity.current.account_id}", "ACCOUNT", "${var.cluster}", "CLUSTER")
)

// The sidecar's tests hold the JSON policies to the calls that it makes.
func TestTemplates_AllowWhatTheJSONPoliciesAllow(t *testing.T) {
	want := map[string]bool{}
	for _, name := range []string{
		"task-role-policy.json", "execution-role-policy.json", "rotate-task-role-policy.json", "rotate-scheduler-role-policy.json",
	} {
		want[written(t, mustRead(t, name).Policies[0], strings.NewReplacer())] = true
	}
	for name, names := range map[string]*strings.Replacer{"cloudformation.yaml": inCloudFormation, "terraform": inTerraform} {
		policies := mustRead(t, name).Policies
		if len(policies) != len(want) {
			t.Errorf("%s has %d policies, and there are %d in JSON", name, len(policies), len(want))
		}
		for _, p := range policies {
			if got := written(t, p, names); !want[got] {
				t.Errorf("%s has a policy that is none of those in JSON:\n%s", name, got)
			}
		}
	}
}

func written(t *testing.T, p Policy, names *strings.Replacer) string {
	t.Helper()
	p.Statement = slices.Clone(p.Statement)
	for i := range p.Statement {
		p.Statement[i].Sid = "" // a comment
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return names.Replace(string(text))
}

// The rotation is one switch: a part of it that stays on costs money, or sounds for ever.
func TestTemplates_SwitchAllOfTheRotation(t *testing.T) {
	for file, part := range map[string]*regexp.Regexp{
		"cloudformation.yaml":   regexp.MustCompile(`(?m)^  (\w*Rotat\w*):\n    Type: AWS::.*\n(    Condition: Rotates\n)?`),
		"terraform/rotation.tf": regexp.MustCompile(`(?m)^resource "\w+" "(\w*rotat\w*)" \{\n(  count += local\.rotation\n)?`),
		"terraform/alarms.tf":   regexp.MustCompile(`(?m)^resource "\w+" "(\w*rotat\w*)" \{\n(  count += local\.rotation\n)?`),
	} {
		text, err := fs.ReadFile(examples, file)
		if err != nil {
			t.Fatal(err)
		}
		parts := part.FindAllStringSubmatch(string(text), -1)
		if len(parts) < 2 {
			t.Errorf("%s: %d parts were found", file, len(parts))
		}
		for _, m := range parts {
			if m[2] == "" {
				t.Errorf("%s: %s is always there", file, m[1])
			}
		}
	}
}

// The alarm on rotations would sound for ever, or never, if rotate said something else.
func TestSucceeded_AreTheResultsThatTheDocumentCallsDone(t *testing.T) {
	done, undone := results(t, 0), results(t, 1)
	done = slices.DeleteFunc(done, func(r string) bool { return r == "dry-run" || slices.Contains(undone, r) })
	slices.Sort(done)
	if want := slices.Sorted(slices.Values(succeeded)); !slices.Equal(done, want) {
		t.Errorf("docs/rotation.md has %v, the metric filters count %v", done, want)
	}
}

// results are those that docs/rotation.md has beside an exit code.
func results(t *testing.T, code int) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/rotation.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, ok := strings.Cut(string(text), fmt.Sprintf("\n| %d |", code))
	row, _, ok2 := strings.Cut(row, "|")
	if !ok || !ok2 {
		t.Fatalf("docs/rotation.md has no row for the exit code %d", code)
	}
	var all []string
	for _, m := range regexp.MustCompile("`([a-z][a-z-]*)`").FindAllStringSubmatch(row, -1) {
		all = append(all, m[1])
	}
	return all
}

// A change is an example with one text in it replaced.
type change struct{ file, old, new string }

// changed has the one change, and must have it.
func changed(t *testing.T, c change) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	err := fs.WalkDir(examples, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(examples, name)
		all[name] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before := string(all[c.file].Data)
	if !strings.Contains(before, c.old) {
		t.Fatalf("%s has no %s", c.file, c.old)
	}
	all[c.file] = &fstest.MapFile{Data: []byte(strings.Replace(before, c.old, c.new, 1))}
	return all
}

// unit is what Read takes for the file: a directory of Terraform is read as one.
func (c change) unit() string {
	if dir, _, ok := strings.Cut(c.file, "/"); ok {
		return dir
	}
	return c.file
}

func named[T any](rules []rule[T]) []string {
	var all []string
	for _, r := range rules {
		all = append(all, r.name)
	}
	return all
}

// The templates can have the key in memory alone.
func TestExamples_KeyInMemory(t *testing.T) {
	for _, c := range []change{
		{"cloudformation.yaml", "Default: Disk", "Default: Memory"},
		{"terraform/variables.tf", `default     = "disk"`, `default     = "memory"`},
	} {
		e, err := Read(changed(t, c), c.unit())
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range e.Broken() {
			t.Errorf("%s: %s", c.file, broken)
		}
		var paths, written []string
		for _, d := range e.Definitions {
			for _, container := range d.ContainerDefinitions {
				paths = append(paths, setting(container, "SNOWFLAKE_PRIVATE_KEY_PATH"))
				written = append(written, setting(container, "SNOWKEY_FORMATS"))
			}
		}
		if !slices.Contains(paths, "/run/snowflake/rsa_key.der.sock") || !slices.Contains(written, "none") {
			t.Errorf("%s: paths %q, formats %q", c.file, paths, written)
		}
	}
}

func TestRules_CanBeBroken(t *testing.T) {
	testenv.Heavy(t)
	unbroken := map[string]bool{}
	for _, names := range [][]string{
		named(taskRules), named(policyRules), named(trustRules), named(scheduleRules),
		named(serviceRules), named(filterRules), named(alarmRules), named(exampleRules),
	} {
		for _, name := range names {
			unbroken[name] = true
		}
	}
	for _, tc := range []struct {
		rule string
		change
	}{
		{"on Fargate, containers share", change{"ec2-tmpfs.json", `["EC2"]`, `["EC2", "FARGATE"]`}},
		{"on Fargate, containers share", change{"fargate.json", `{"name": "snowflake-key"}`, `{"name": "snowflake-key", "host": {"sourcePath": "/tmp"}}`}},
		{"nothing waits for the end", change{"fargate.json", `"HEALTHY"`, `"SUCCESS"`}},
		{"nothing waits for the end", change{"fargate.json", `"HEALTHY"`, `"COMPLETE"`}},
		{"nothing waits for the end", change{"cloudformation.yaml", `Condition: HEALTHY`, `Condition: SUCCESS`}},
		{"nothing waits for the end", change{"terraform/main.tf", `condition = "HEALTHY"`, `condition = "COMPLETE"`}},
		{"one container has the sidecar's settings", change{"fargate.json", `"CMD", "/sidecar", "healthcheck"`, `"CMD-SHELL", "/sidecar healthcheck"`}},
		{"one container has the sidecar's settings", change{"env-injection.json", `"SECRET_KEY"`, `"SECRETKEY"`}},
		{"one container has the sidecar's settings", change{"fargate.json", `"startPeriod": 60`, `"startPeriod": 600`}},
		{"a reader waits until", change{"fargate.json", `"HEALTHY"`, `"START"`}},
		{"a reader waits until", change{"fargate.json", `"dependsOn": [{"containerName": "sidecar", "condition": "HEALTHY"}],`, ``}},
		{"every image is named", change{"fargate.json", `/app@sha256:DIGEST`, `/app:latest`}},
		{"every image is named", change{"fargate.json", `/app@sha256:DIGEST`, `/app@sha256:0123`}},
		{"every image is named", change{"cloudformation.yaml", `/${AppRepository}@${AppDigest}`, `/${AppRepository}:1.0`}},
		{"every image is named", change{"terraform/main.tf", `@${var.app_digest}`, `:latest`}},
		{"a path is the same", change{"fargate.json", `"/run/snowflake", "readOnly"`, `"/run/keys", "readOnly"`}},
		{"a path is the same", change{"fargate.json", `"sourceVolume": "snowflake-key"`, `"sourceVolume": "key"`}},
		{"the sidecar publishes into", change{"fargate.json", `"/run/snowflake"}`, `"/run/snowflake", "readOnly": true}`}},
		{"the sidecar publishes into", change{"fargate.json", `{"name": "SNOWKEY_KEY`, `{"name": "SNOWKEY_DIR", "value": "/run/key"}, {"name": "SNOWKEY_KEY`}},
		{"a reader mounts the key's volume", change{"fargate.json", `, "readOnly": true`, ``}},
		{"a reader mounts the key's volume", change{"fargate.json", `/run/snowflake/rsa_key.pem`, `/run/snowflake/rsa_key.p8`}},
		{"a reader mounts the key's volume", change{"fargate.json", `/run/snowflake/rsa_key.pem`, `/run/snowflake/rsa_key.der`}},
		{"a reader mounts the key's volume", change{"cloudformation.yaml", `/run/snowflake/rsa_key.pem`, `/run/keys/rsa_key.pem`}},
		{"a reader mounts the key's volume", change{"ec2-tmpfs.json", `"SNOWFLAKE_HOME", "value": "/run/snowflake"`, `"SNOWFLAKE_HOME", "value": "/root"`}},
		{"a reader mounts the key's volume", change{"ec2-tmpfs.json", `"SNOWKEY_CONNECTIONS", "value": "true"`, `"SNOWKEY_CONNECTIONS", "value": "false"`}},
		{"one container has the sidecar's settings", change{"fargate-memory.json", `"retries": 10`, `"retries": 3`}},
		{"a reader mounts the key's volume", change{"fargate-memory.json", `rsa_key.der.sock`, `rsa_key.b64.sock`}},
		{"a reader mounts the key's volume", change{"fargate-memory.json", `rsa_key.der.sock`, `rsa_key.pem`}},
		{"a reader mounts the key's volume", change{"fargate-memory.json", `"value": "der,pem"`, `"value": "pem"`}},
		{"a program beside its own key", change{"fargate-exec.json", `/run/snowflake/rsa_key.pem`, `/tmp/rsa_key.pem`}},
		{"a program beside its own key", change{"fargate-exec.json", `"exec", "--"`, `"run"`}},
		{"a program beside its own key", change{"fargate-exec.json", `"entryPoint": ["/sidecar", "exec", "--"],`, ``}},
		{"a program beside its own key", change{"fargate-exec.json", `"command": ["/app"],`, ``}},
		{"where the key can be in memory", change{"fargate-exec.json", `"value": "true"`, `"value": "false"`}},
		{"where the key can be in memory", change{"ec2-tmpfs.json", `"type": "tmpfs"`, `"type": "ext4"`}},
		{"a tmpfs is small", change{"ec2-tmpfs.json", `mode=0750,`, ``}},
		{"a tmpfs is small", change{"fargate-exec.json", `"noexec", `, ``}},
		{"a container is essential", change{"fargate.json", `"essential": true`, `"essential": false`}},
		{"a container is essential", change{"fargate.json", `"user": "65532:65532"`, `"user": "0:0"`}},
		{"a container is essential", change{"fargate.json", `      "readonlyRootFilesystem": true,` + "\n", ``}},
		{"a container is essential", change{"fargate.json", `"drop": ["ALL"]`, `"drop": ["ALL"], "add": ["SYS_PTRACE"]`}},
		{"a container is essential", change{"cloudformation.yaml", `Drop: [ALL]`, `Drop: [CHOWN]`}},
		{"a container is essential", change{"fargate.json", `"essential": true`, `"essential": true, "privileged": true`}},
		{"on Fargate, a task has", change{"fargate.json", `"cpu": "256",`, ``}},
		{"on Fargate, a task has", change{"cloudformation.yaml", `Memory: "512"`, `Memory: "300"`}},
		{"no container sees", change{"fargate.json", `"stopTimeout": 10`, `"volumesFrom": [{"sourceContainer": "app"}], "stopTimeout": 10`}},
		{"no container sees", change{"fargate.json", `"networkMode"`, `"pidMode": "task", "networkMode"`}},
		{"a container that runs on", change{"fargate.json", `"stopTimeout": 10`, `"stopTimeout": 600`}},
		{"a container that runs on", change{"fargate.json", `"restartAttemptPeriod": 60`, `"restartAttemptPeriod": 5`}},
		{"a container that runs on", change{"fargate.json", `"awslogs-region": "REGION", `, ``}},
		{"the sidecar does not restart", change{"fargate.json", `[2]`, `[3]`}},
		{"a secret is the ARN", change{"fargate.json", `{"name": "SNOWKEY_KEY`, `{"name": "SECRET_KEY", "value": "x"}, {"name": "SNOWKEY_KEY`}},
		{"a secret is the ARN", change{"env-injection.json", `arn:aws:ssm:REGION:ACCOUNT:parameter/app/key`, `/app/key`}},
		{"a sidecar that fetches", change{"fargate.json", `"taskRoleArn": "arn:aws:iam::ACCOUNT:role/app-task",`, ``}},
		{"on EC2, a sidecar", change{"ec2-tmpfs.json", `{"name": "AWS_REGION", "value": "REGION"},`, ``}},
		{"on EC2, a sidecar", change{"fargate.json", `"requiresCompatibilities": ["FARGATE"],`, ``}},
		{"a sidecar that fetches", change{"fargate.json", `"executionRoleArn": "arn:aws:iam::ACCOUNT:role/app-execution",`, ``}},

		{"a rotation has", change{"rotate.json", `"SNOWFLAKE_USER"`, `"APP_USER"`}},
		{"a rotation has", change{"rotate.json", `"taskRoleArn": "arn:aws:iam::ACCOUNT:role/app-rotate-task",`, ``}},
		{"a rotation has", change{"rotate.json", `"stopTimeout": 120`, `"stopTimeout": 30`}},
		{"a rotation has", change{"rotate.json", `"stopTimeout": 120`, `"restartPolicy": {"enabled": true}, "stopTimeout": 120`}},
		{"a rotation has", change{"cloudformation.yaml", `StopTimeout: 120`, `StopTimeout: 10`}},
		{"a rotation has", change{"terraform/rotation.tf", `stopTimeout = 120`, `stopTimeout = 10`}},
		{"a rotation has", change{"terraform/rotation.tf", `"SNOWFLAKE_ACCOUNT"`, `"APP_ACCOUNT"`}},
		{"a rotation has its maximum age", change{"rotate.json", `["rotate", "--max-age", "30d"]`, `["rotate"]`}},
		{"a rotation has its maximum age", change{"rotate.json", `"30d"`, `"0d"`}},
		{"a rotation has its maximum age", change{"rotate.json", `{"name": "SNOWFLAKE_ACCOUNT"`, `{"name": "SNOWKEY_MAX_AGE", "value": "30d"}, {"name": "SNOWFLAKE_ACCOUNT"`}},
		{"a rotation has its maximum age", change{"cloudformation.yaml", `[rotate, --max-age, !Sub "${RotateAfterDays}d"]`, `[rotate, --finish]`}},
		{"a rotation has its maximum age", change{"terraform/rotation.tf", `"${var.rotate_after_days}d"`, `"${var.rotate_after_days}h"`}},
		{"a container is essential", change{"terraform/rotation.tf", `"65532:65532"`, `"0:0"`}},
		{"every image is named", change{"terraform/rotation.tf", `@${var.sidecar_digest}`, `:latest`}},
		{"a container that runs on", change{"terraform/rotation.tf", `"awslogs-region"        = var.region`, ``}},
		{"one container has the sidecar's settings", change{"rotate.json", `["rotate", `, `["run", `}},
		{"a schedule runs one task", change{"rotate-schedule.json", `"DISABLED"`, `"ENABLED"`}},
		{"a schedule runs one task", change{"rotate-schedule.json", `"TaskCount": 1`, `"TaskCount": 2`}},
		{"a schedule runs one task", change{"cloudformation.yaml", `AssignPublicIp: !Ref AssignPublicIp
        RetryPolicy`, `AssignPublicIp: ENABLED
        RetryPolicy`}},
		{"a schedule runs one task", change{"terraform/rotation.tf", `"LATEST"`, `"1.3.0"`}},
		{"a schedule runs the newest", change{"rotate-schedule.json", `task-definition/app-rotate"`, `task-definition/app-rotate:1"`}},
		{"a schedule runs the newest", change{"rotate-schedule.json", `"RetryPolicy"`, `"Input": "{}", "RetryPolicy"`}},
		{"a schedule runs the newest", change{"cloudformation.yaml", `TaskDefinitionArn: !Ref RotateTaskDefinition`, `TaskDefinitionArn: !Ref TaskDefinition`}},
		{"a schedule runs the newest", change{"terraform/rotation.tf", `aws_ecs_task_definition.rotate[0].arn`, `"${local.rotate_family}:1"`}},
		{"a schedule runs a rotation every day", change{"rotate-schedule.json", `cron(0 3 * * ? *)`, `cron(0 3 1 * ? *)`}},
		{"a schedule runs a rotation every day", change{"cloudformation.yaml", `cron(0 3 * * ? *)`, `rate(30 days)`}},
		{"a schedule runs a rotation every day", change{"terraform/rotation.tf", `"cron(0 3 * * ? *)"`, `"cron(0 3 * * ? *)"
  state = "DISABLED"`}},
		{"a role is assumed", change{"cloudformation.yaml", `scheduler.amazonaws.com`, `events.amazonaws.com`}},
		{"a role is assumed", change{"cloudformation.yaml", `aws:SourceAccount`, `aws:PrincipalAccount`}},
		{"a role is assumed", change{"terraform/rotation.tf", `"aws:SourceArn"`, `"aws:PrincipalArn"`}},
		{"a role is assumed", change{"terraform/main.tf", `{ Service = "ecs-tasks.amazonaws.com" }`, `"*"`}},
		{"to encrypt is allowed", change{"cloudformation.yaml", `PARAMETER_ARN: !Sub arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter${KeyParameter}`,
			`PARAMETER_ARN: !Sub arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter${PassphraseParameter}`}},
		{"to encrypt is allowed", change{"terraform/rotation.tf", `PARAMETER_ARN" = local.key_arn`, `PARAMETER_ARN" = local.parameter_arns`}},
		{"a role is passed", change{"cloudformation.yaml", `iam:PassedToService`, `iam:PassedTo`}},
		{"a role is passed", change{"terraform/rotation.tf", `{ ArnEquals = `, `{ ArnLike = `}},
		{"a metric filter counts", change{"cloudformation.yaml", `($.result = "young")`, `($.result = "failed")`}},
		{"a metric filter counts", change{"cloudformation.yaml", `LogGroupName: !Ref LogGroup
      FilterPattern`, `LogGroupName: /ecs/another
      FilterPattern`}},
		{"a metric filter counts", change{"terraform/alarms.tf", `"${var.key_parameter}\"`, `"${var.passphrase_parameter}\"`}},
		{"a metric filter counts", change{"terraform/alarms.tf", `value     = "1"`, `value     = "0"`}},
		{"a metric filter's metric", change{"cloudformation.yaml", `MetricName: !Sub "RotationsSucceeded-${AWS::StackName}"`, `MetricName: RotationsSucceeded`}},
		{"a metric filter's metric", change{"terraform/alarms.tf", `namespace = "Snowkey"
    name `, `namespace = "Rotation"
    name `}},
		{"a template with a schedule", change{"cloudformation.yaml", `MetricName: !Sub RotationsSucceeded-${AWS::StackName}`, `MetricName: KeyAgeDays`}},
		{"a template with a schedule", change{"terraform/alarms.tf", `metric_name         = "RotationsSucceeded-${var.name}"`, `metric_name = "Rotations"`}},
		{"an alarm on rotations", change{"cloudformation.yaml", `EvaluationPeriods: 26`, `EvaluationPeriods: 24`}},
		{"an alarm on rotations", change{"terraform/alarms.tf", `"Sum"`, `"Maximum"`}},
		{"an alarm on rotations", change{"terraform/alarms.tf", `"LessThanThreshold"`, `"LessThanOrEqualToThreshold"`}},
		{"no metric at all", change{"cloudformation.yaml", `Threshold: 1
      TreatMissingData: breaching`, `Threshold: 1
      TreatMissingData: notBreaching`}},
		{"a topic can be", change{"terraform/alarms.tf", `treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions`, `treat_missing_data  = "breaching"
  alarm_actions       = []`}},
		{"to encrypt is allowed", change{"rotate-task-role-policy.json", `PARAMETER_ARN": "arn:aws:ssm:REGION:ACCOUNT:parameter/app/key"`, `PARAMETER_ARN": "arn:aws:ssm:REGION:ACCOUNT:parameter/app/passphrase"`}},
		{"a role is passed", change{"rotate-scheduler-role-policy.json", `ecs-tasks.amazonaws.com`, `ec2.amazonaws.com`}},
		{"a role is passed", change{"rotate-scheduler-role-policy.json", `"ecs:cluster"`, `"aws:cluster"`}},

		{"a policy allows nothing on every", change{"task-role-policy.json", `"arn:aws:kms:REGION:ACCOUNT:key/KEY_ID"`, `"*"`}},
		{"a policy allows nothing on every", change{"execution-role-policy.json", `"Action": "ecr:GetAuthorizationToken"`, `"Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"]`}},
		{"a policy allows nothing on every", change{"cloudformation.yaml", `Resource: !GetAtt ParametersKey.Arn`, `Resource: "*"`}},
		{"a policy allows nothing on every", change{"terraform/main.tf", `Resource = aws_kms_key.parameters.arn`, `Resource = "*"`}},
		{"a policy names its resources", change{"task-role-policy.json", `parameter/app/key`, `parameter/app/*`}},
		{"a policy names its resources", change{"task-role-policy.json", `key/KEY_ID"`, `key/KEY_ID:*"`}},
		{"a policy names its resources", change{"execution-role-policy.json", `repository/app"`, `repository/ap?"`}},
		{"a policy names its actions", change{"task-role-policy.json", `ssm:GetParameters`, `ssm:*`}},
		{"to decrypt is allowed", change{"task-role-policy.json", `"kms:ViaService": "ssm.REGION.amazonaws.com",`, ``}},
		{"to decrypt is allowed", change{"task-role-policy-secrets-manager.json", `"kms:EncryptionContext:SecretARN": "arn`, `"kms:EncryptionContext:SecretARN": "of-another-arn`}},
		{"to decrypt is allowed", change{"task-role-policy.json", `kms:Decrypt",
      "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY_ID",
      "Condition": {
        "StringEquals"`, `kms:decrypt",
      "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY_ID",
      "Condition": {
        "StringLike"`}},
		{"to decrypt is allowed", change{"terraform/main.tf", `"kms:EncryptionContext:PARAMETER_ARN" = local.parameter_arns`, ``}},

		{"a service runs on the newest", change{"cloudformation.yaml", `PlatformVersion: LATEST`, `PlatformVersion: 1.3.0`}},
		{"a service runs on the newest", change{"terraform/main.tf", `"LATEST"`, `"1.3.0"`}},
		{"an alarm is about", change{"cloudformation.yaml", `{Name: SNOWKEY_EMF, Value: !Ref AWS::StackName}`, `{Name: SNOWKEY_EMF, Value: app}`}},
		{"an alarm is about", change{"terraform/alarms.tf", `{ Service = var.name }`, `{ Service = var.name, Task = "1" }`}},
		{"an alarm is about", change{"terraform/alarms.tf", `"Snowkey"`, `"AWS/ECS"`}},
		{"an alarm's period", change{"cloudformation.yaml", `Period: 900`, `Period: 300`}},
		{"an alarm's period", change{"terraform/alarms.tf", `"Maximum"`, `"Average"`}},
		{"no metric at all", change{"cloudformation.yaml", `TreatMissingData: breaching`, `TreatMissingData: missing`}},
		{"no metric at all", change{"terraform/alarms.tf", `"notBreaching"`, `"breaching"`}},
		{"a topic can be", change{"cloudformation.yaml", `AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopic], !Ref AWS::NoValue]`, ``}},

		{"ECS Exec is off", change{"terraform/main.tf", `enable_execute_command = false`, `enable_execute_command = true`}},
	} {
		e, err := Read(changed(t, tc.change), tc.unit())
		if err != nil {
			t.Errorf("%v: %v", tc.change, err)
			continue
		}
		if all := strings.Join(e.Broken(), "\n"); !strings.Contains(all, tc.rule) {
			t.Errorf("%v: not noticed as %q, but as %q", tc.change, tc.rule, all)
		}
		for name := range unbroken {
			if strings.HasPrefix(name, tc.rule) {
				delete(unbroken, name)
			}
		}
	}
	for name := range unbroken {
		t.Errorf("no change here breaks: %s", name)
	}
}

func TestRead_RefusesWhatAWSDoesNotTake(t *testing.T) {
	for _, tc := range []struct {
		change
		want string
	}{
		{change{"fargate.json", `"stopTimeout"`, `"stopTimeOutSeconds"`}, "unknown field"},
		{change{"fargate.json", `"capabilities"`, `"capability"`}, "unknown field"},
		{change{"fargate.json", `"essential"`, `"Essential"`}, "upper and lower case"},
		{change{"fargate.json", `"HEALTHY"`, `"HEALTHLY"`}, "none of"},
		{change{"fargate.json", `["FARGATE"]`, `["FARGET"]`}, "none of"},
		{change{"fargate.json", `"logDriver": "awslogs"`, `"logDriver": "cloudwatch"`}, "none of"},
		{change{"fargate.json", `"family": "app",`, ``}, "Family"},
		{change{"fargate.json", `"command": ["CMD", "/sidecar", "healthcheck"], `, ``}, "Command"},
		{change{"fargate.json", `"cpu": "256"`, `"cpu": 256`}, "cannot unmarshal"},
		{change{"cloudformation.yaml", `StopTimeout: 10`, `StopTimeoutSeconds: 10`}, "unknown field"},
		{change{"cloudformation.yaml", `Condition: HEALTHY`, `Condition: HEALTHLY`}, "none of"},
		{change{"cloudformation.yaml", `!Ref LogGroup`, `!ImportValue LogGroup`}, "!ImportValue"},
		{change{"terraform/main.tf", `stopTimeout   = 10`, `stopTimeouts  = 10`}, "unknown field"},
		{change{"terraform/main.tf", `network_mode `, `net_mode `}, "unknown field"},
		{change{"terraform/main.tf", `var.sidecar_digest`, `var.digest`}, "digest"},
		{change{"task-role-policy.json", `"Effect"`, `"Efect"`}, "unknown field"},
		{change{"rotate-schedule.json", `"awsvpcConfiguration"`, `"AwsvpcConfiguration"`}, "upper and lower case"},
		{change{"rotate-schedule.json", `"TaskCount"`, `"TasksCount"`}, "unknown field"},
		{change{"cloudformation.yaml", `LaunchType: FARGATE
          PlatformVersion`, `LaunchType: FARGET
          PlatformVersion`}, "none of"},
		{change{"cloudformation.yaml", `MaximumRetryAttempts`, `MaximumRetries`}, "unknown field"},
		{change{"cloudformation.yaml", `MetricValue: "1"`, `MetricValue: "1", Unit: Count`}, "Unit"},
		{change{"terraform/rotation.tf", `task_count `, `tasks_count `}, "unknown field"},
		{change{"terraform/rotation.tf", `aws_scheduler_schedule" `, `aws_scheduler_schedule_group" `}, "not read here"},
		{change{"rotate-schedule.json", `"FARGATE"`, `"FARGET"`}, "none of"},
		{change{"rotate-schedule.json", `"Name": "app-rotate",`, ``}, "Name"},
	} {
		if _, err := Read(changed(t, tc.change), tc.unit()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: error %v lacks %q", tc.change, err, tc.want)
		}
	}
}
