package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// accounts shows that Snowflake answers; the trial has asked AWS who it is before it began.
func (t *trial) accounts(ctx context.Context) error {
	answer, err := rows(ctx, t.admin, "SELECT CURRENT_VERSION() AS version")
	if err != nil {
		return err
	}
	if len(answer) != 1 {
		return fmt.Errorf("CURRENT_VERSION() has %d rows", len(answer))
	}
	t.serverVersion = answer[0]["version"]
	return nil
}

// userAndRole creates the user whose keys are rotated. Its login name is not its name, and it may change its own keys by
// its role alone, as docs/rotation.md says.
func (t *trial) userAndRole(ctx context.Context) error {
	name := t.object()
	if err := t.create(ctx, "the role "+name, "CREATE ROLE "+name, "DROP ROLE IF EXISTS "+name); err != nil {
		return err
	}
	create := fmt.Sprintf("CREATE USER %s TYPE = SERVICE LOGIN_NAME = '%s' DEFAULT_ROLE = %s", name, t.login(), name)
	if err := t.create(ctx, "the user "+name, create, "DROP USER IF EXISTS "+name); err != nil {
		return err
	}
	for _, statement := range []string{
		fmt.Sprintf("GRANT ROLE %s TO USER %s", name, name),
		fmt.Sprintf("GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER %s TO ROLE %s", name, name),
	} {
		if _, err := t.admin.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

//go:embed key.yaml
var keyTemplate string

// kms creates the KMS key by a stack: a stack can be removed by its name, even if the trial dies while it is created.
func (t *trial) kms(ctx context.Context) error {
	path := t.path("key.yaml")
	if err := os.WriteFile(path, []byte(keyTemplate), 0o600); err != nil {
		return err
	}
	if err := t.cleanups.add(stackCleanup(t.name)); err != nil {
		return err
	}
	if _, err := t.aws.run(ctx, "cloudformation", "deploy", "--stack-name", t.name, "--template-file", path,
		"--tags", keyTag+"="+t.name); err != nil {
		return err
	}
	outputs, err := t.outputs(ctx, t.name)
	if err != nil {
		return err
	}
	t.kmsKey = outputs["KeyId"]
	return nil
}

func stackCleanup(stack string) cleanup { return cleanup{What: "the stack " + stack, Stack: stack} }

// removeStack deletes a stack. An update that is under way has to end first.
func (t *trial) removeStack(ctx context.Context, stack string) error {
	for {
		status, err := t.stackStatus(ctx, stack)
		switch {
		case err != nil || status == "":
			return err
		case status == "UPDATE_IN_PROGRESS":
			_, _ = t.aws.run(ctx, "cloudformation", "cancel-update-stack", "--stack-name", stack) // it may have ended meanwhile
		case !strings.HasSuffix(status, "_IN_PROGRESS"):
			if _, err := t.aws.run(ctx, "cloudformation", "delete-stack", "--stack-name", stack); err != nil {
				return err
			}
			_, err := t.aws.run(ctx, "cloudformation", "wait", "stack-delete-complete", "--stack-name", stack)
			return err
		}
		if err := pause(ctx, stackPause); err != nil {
			return fmt.Errorf("it is %s: %w", status, err)
		}
	}
}

const stackPause = 5 * time.Second

var noStack = regexp.MustCompile(`\(ValidationError\).*Stack with id \S+ does not exist`)

// stackStatus is "" if there is no such stack.
func (t *trial) stackStatus(ctx context.Context, stack string) (string, error) {
	var answer struct {
		Stacks []struct{ StackStatus string }
	}
	err := t.aws.runJSON(ctx, &answer, "cloudformation", "describe-stacks", "--stack-name", stack)
	if err != nil && noStack.MatchString(err.Error()) {
		return "", nil
	}
	if err != nil || len(answer.Stacks) == 0 {
		return "", err
	}
	return answer.Stacks[0].StackStatus, nil
}

// keyTag is on every KMS key of a trial: CloudFormation passes on the tags of a stack.
const keyTag = "snowkey-live"

// removeKeys schedules the deletion of the trial's KMS keys, by their tag: the example's stack retains its key, and a
// stack that was interrupted may have created one that it does not name.
func (t *trial) removeKeys(ctx context.Context, name string) error {
	var listed struct {
		ResourceTagMappingList []struct {
			ARN string `json:"ResourceARN"`
		}
	}
	if err := t.aws.runJSON(ctx, &listed, "resourcegroupstaggingapi", "get-resources", "--resource-type-filters", "kms:key",
		"--tag-filters", "Key="+keyTag+",Values="+name); err != nil {
		return err
	}
	for _, key := range listed.ResourceTagMappingList {
		_, err := t.aws.run(ctx, "kms", "schedule-key-deletion", "--pending-window-in-days", "7", "--key-id", key.ARN)
		if err != nil && errorCode(err) != "KMSInvalidStateException" { // its deletion is scheduled already
			return err
		}
	}
	return nil
}

// outputs are a stack's outputs.
func (t *trial) outputs(ctx context.Context, stack string) (map[string]string, error) {
	var answer struct {
		Stacks []struct {
			Outputs []struct{ OutputKey, OutputValue string }
		}
	}
	if err := t.aws.runJSON(ctx, &answer, "cloudformation", "describe-stacks", "--stack-name", stack); err != nil {
		return nil, err
	}
	outputs := map[string]string{}
	for _, s := range answer.Stacks {
		for _, o := range s.Outputs {
			outputs[o.OutputKey] = o.OutputValue
		}
	}
	return outputs, nil
}

// Policies of examples/taskdef, by their files.
const (
	taskPolicy   = "task-role-policy.json"
	rotatePolicy = "rotate-task-role-policy.json"
	secretPolicy = "task-role-policy-secrets-manager.json"
	// undecryptedPolicy is none of the examples: it may read one parameter, and decrypt nothing.
	undecryptedPolicy = "without kms:Decrypt"
)

// taskRoles creates roles with the examples' policies, and assumes them: the least privilege is enough only if the
// commands below work with it.
func (t *trial) taskRoles(ctx context.Context) error {
	for _, policy := range []string{taskPolicy, rotatePolicy} {
		text, err := t.policy(policy)
		if err != nil {
			return err
		}
		if err := t.assumeRole(ctx, policy, text); err != nil {
			return err
		}
	}
	return nil
}

// policy is an example with this trial's names in it.
func (t *trial) policy(file string) (string, error) {
	text, err := os.ReadFile("examples/taskdef/" + file)
	if err != nil {
		return "", fmt.Errorf("%w; run it from the repository: make test-live", err)
	}
	return strings.NewReplacer("arn:aws:", "arn:"+t.partition+":", "REGION", t.aws.region, "ACCOUNT", t.accountID, "KEY_ID", t.kmsKey,
		"/app/", "/"+t.name+"/", "secret:app/", "secret:"+t.name+"/").Replace(string(text)), nil
}

// assumeRole creates a role with this policy alone, which this account may assume, and remembers its credentials.
func (t *trial) assumeRole(ctx context.Context, policy, text string) error {
	name := fmt.Sprintf("%s-%d", t.name, len(t.roles))
	trust := encodeJSON(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]string{"AWS": fmt.Sprintf("arn:%s:iam::%s:root", t.partition, t.accountID)},
	}}})
	if err := t.cleanups.add(cleanup{What: "the role " + name, AWS: [][]string{
		{"iam", "delete-role-policy", "--role-name", name, "--policy-name", "live"},
		{"iam", "delete-role", "--role-name", name},
	}}); err != nil {
		return err
	}
	if _, err := t.aws.run(ctx, "iam", "create-role", "--role-name", name, "--assume-role-policy-document", string(trust)); err != nil {
		return err
	}
	if _, err := t.aws.run(ctx, "iam", "put-role-policy", "--role-name", name, "--policy-name", "live", "--policy-document", text); err != nil {
		return err
	}
	arn := fmt.Sprintf("arn:%s:iam::%s:role/%s", t.partition, t.accountID, name)
	return eventually(ctx, 2*time.Minute, func() error {
		var answer struct{ Credentials credentials }
		err := t.aws.runJSON(ctx, &answer, "sts", "assume-role", "--role-arn", arn, "--role-session-name", "live", "--duration-seconds", "3600")
		t.roles[policy] = answer.Credentials
		return err
	})
}
