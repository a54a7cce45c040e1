package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"
)

// accounts learns whose accounts they are, and that both answer.
func (t *trial) accounts(ctx context.Context) error {
	var caller struct{ Account, Arn string }
	if err := t.aws.into(ctx, &caller, "sts", "get-caller-identity"); err != nil {
		return err
	}
	t.accountID = caller.Account
	parts := strings.SplitN(caller.Arn, ":", 3)
	if len(parts) < 3 {
		return fmt.Errorf("sts get-caller-identity answers with %q, which is no ARN", caller.Arn)
	}
	t.partition = parts[1]
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

// kms creates the KMS key by a stack, since a stack has a name before it exists, and can so be removed by whoever finds
// the ledger.
func (t *trial) kms(ctx context.Context) error {
	path := t.path("key.yaml")
	if err := os.WriteFile(path, []byte(keyTemplate), 0o600); err != nil {
		return err
	}
	if err := t.ledger.add(stackRemoval(t.name)); err != nil {
		return err
	}
	if _, err := t.aws.run(ctx, "cloudformation", "deploy", "--stack-name", t.name, "--template-file", path,
		"--tags", "snowkey-live="+t.name); err != nil {
		return err
	}
	outputs, err := t.outputs(ctx, t.name)
	if err != nil {
		return err
	}
	t.kmsKey = outputs["KeyId"]
	return nil
}

func stackRemoval(stack string) removal { return removal{What: "the stack " + stack, Stack: stack} }

// removeStack deletes a stack, and the KMS keys in it, which the example's stack retains.
func (t *trial) removeStack(ctx context.Context, stack string) error {
	var answer struct {
		StackResources []struct{ PhysicalResourceId, ResourceType string }
	}
	err := t.aws.into(ctx, &answer, "cloudformation", "describe-stack-resources", "--stack-name", stack)
	if err != nil && strings.Contains(err.Error(), "does not exist") {
		return nil
	}
	if err != nil {
		return err
	}
	for _, resource := range answer.StackResources {
		if resource.ResourceType != "AWS::KMS::Key" || resource.PhysicalResourceId == "" {
			continue
		}
		_, err := t.aws.run(ctx, "kms", "schedule-key-deletion", "--pending-window-in-days", "7", "--key-id", resource.PhysicalResourceId)
		if err != nil && !strings.Contains(err.Error(), "pending deletion") {
			return err
		}
	}
	if _, err := t.aws.run(ctx, "cloudformation", "delete-stack", "--stack-name", stack); err != nil {
		return err
	}
	_, err = t.aws.run(ctx, "cloudformation", "wait", "stack-delete-complete", "--stack-name", stack)
	return err
}

// outputs are those of a stack.
func (t *trial) outputs(ctx context.Context, stack string) (map[string]string, error) {
	var answer struct {
		Stacks []struct {
			Outputs []struct{ OutputKey, OutputValue string }
		}
	}
	if err := t.aws.into(ctx, &answer, "cloudformation", "describe-stacks", "--stack-name", stack); err != nil {
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
	trust := printable(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]string{"AWS": fmt.Sprintf("arn:%s:iam::%s:root", t.partition, t.accountID)},
	}}})
	if err := t.ledger.add(removal{What: "the role " + name, AWS: [][]string{
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
		err := t.aws.into(ctx, &answer, "sts", "assume-role", "--role-arn", arn, "--role-session-name", "live", "--duration-seconds", "3600")
		t.roles[policy] = answer.Credentials
		return err
	})
}
