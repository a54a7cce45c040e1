package taskdef

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

var examples = os.DirFS("../../examples/taskdef")

// Whatever lies in the folder is read, so that none is forgotten here.
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

func TestExamplesAreWhatECSTakesAndKeepTheRules(t *testing.T) {
	definitions, policies, schedules, alarms := 0, 0, 0, 0
	for _, name := range names(t) {
		e, err := Read(examples, name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, broken := range e.Broken() {
			t.Errorf("%s: %s", name, broken)
		}
		if e.Definition != nil {
			definitions++
		}
		if e.Schedule != nil {
			schedules++
		}
		policies += len(e.Policies)
		alarms += len(e.Alarms)
	}
	if definitions != 7 || policies != 9 || schedules != 2 || alarms != 4 {
		t.Errorf("%d task definitions, %d policies, %d schedules and %d alarms were read", definitions, policies, schedules, alarms)
	}
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

// unit is what Read takes for the file: a folder of Terraform is read as one.
func (c change) unit() string {
	if dir, _, ok := strings.Cut(c.file, "/"); ok {
		return dir
	}
	return c.file
}

func TestEveryRuleCanBeBroken(t *testing.T) {
	unbroken := map[string]bool{}
	for _, r := range taskRules {
		unbroken[r.name] = true
	}
	for _, r := range policyRules {
		unbroken[r.name] = true
	}
	for _, r := range scheduleRules {
		unbroken[r.name] = true
	}
	for _, r := range serviceRules {
		unbroken[r.name] = true
	}
	for _, r := range alarmRules {
		unbroken[r.name] = true
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
		{"a reader mounts the key's volume", change{"fargate.json", `/run/snowflake/rsa_key.der`, `/run/snowflake/rsa_key.p8`}},
		{"a reader mounts the key's volume", change{"cloudformation.yaml", `/run/snowflake/rsa_key.der`, `/run/keys/rsa_key.der`}},
		{"a program beside its own key", change{"fargate-exec.json", `/run/snowflake/rsa_key.der`, `/tmp/rsa_key.der`}},
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
		{"a container is started again", change{"fargate.json", `"stopTimeout": 10`, `"stopTimeout": 600`}},
		{"a container is started again", change{"fargate.json", `"restartAttemptPeriod": 60`, `"restartAttemptPeriod": 5`}},
		{"a container is started again", change{"fargate.json", `"awslogs-region": "REGION", `, ``}},
		{"the sidecar is not started again", change{"fargate.json", `[2]`, `[3]`}},
		{"a secret is the ARN", change{"fargate.json", `{"name": "SNOWKEY_KEY`, `{"name": "SECRET_KEY", "value": "x"}, {"name": "SNOWKEY_KEY`}},
		{"a secret is the ARN", change{"env-injection.json", `arn:aws:ssm:REGION:ACCOUNT:parameter/app/key`, `/app/key`}},
		{"who fetches the key", change{"fargate.json", `"taskRoleArn": "arn:aws:iam::ACCOUNT:role/app-task",`, ``}},
		{"on EC2, who fetches", change{"ec2-tmpfs.json", `{"name": "AWS_REGION", "value": "REGION"},`, ``}},
		{"on EC2, who fetches", change{"fargate.json", `"requiresCompatibilities": ["FARGATE"],`, ``}},
		{"who fetches the key", change{"fargate.json", `"executionRoleArn": "arn:aws:iam::ACCOUNT:role/app-execution",`, ``}},

		{"a rotation has", change{"rotate.json", `"SNOWFLAKE_USER"`, `"APP_USER"`}},
		{"a rotation has", change{"rotate.json", `"taskRoleArn": "arn:aws:iam::ACCOUNT:role/app-rotate-task",`, ``}},
		{"a rotation has", change{"rotate.json", `"stopTimeout": 120`, `"stopTimeout": 30`}},
		{"a rotation has", change{"rotate.json", `[0, 2, 3]`, `[2]`}},
		{"one container has the sidecar's settings", change{"rotate.json", `["rotate"]`, `["run"]`}},
		{"a schedule runs", change{"rotate-schedule.json", `task-definition/app-rotate"`, `task-definition/app-rotate:1"`}},
		{"a schedule runs", change{"rotate-schedule.json", `"DISABLED"`, `"ENABLED"`}},
		{"what a schedule puts", change{"rotate-finish-schedule.json", `--finish`, `--finnish`}},
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
		{"somebody can hear", change{"cloudformation.yaml", `AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopic], !Ref AWS::NoValue]`, ``}},

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

func TestWhatECSDoesNotTakeIsRefused(t *testing.T) {
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
		{change{"rotate-schedule.json", `"FARGATE"`, `"FARGET"`}, "none of"},
		{change{"rotate-schedule.json", `"Name": "app-rotate",`, ``}, "Name"},
	} {
		if _, err := Read(changed(t, tc.change), tc.unit()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: error %v lacks %q", tc.change, err, tc.want)
		}
	}
}
