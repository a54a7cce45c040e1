package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// throttleCallers and throttleTimeout are enough for far more than the 40 calls a second of an account's Region.
const (
	throttleCallers = 40
	throttleTimeout = 20 * time.Second
)

// throttle calls SSM until it refuses. The running sidecar keeps its key meanwhile.
func (t *trial) throttle(ctx context.Context) error {
	if t.aws.endpoint != "" {
		return notRun("what stands in for AWS throttles nobody")
	}
	ctx, cancel := context.WithTimeout(ctx, throttleTimeout)
	defer cancel()
	settings, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(t.aws.profile), config.WithRegion(t.aws.region))
	if err != nil {
		return err
	}
	settings.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	refused := t.callUntilRefused(ctx, cancel, ssm.NewFromConfig(settings))
	var api smithy.APIError
	if !errors.As(refused, &api) {
		return fmt.Errorf("SSM refused nothing within %s: %w", throttleTimeout, refused)
	}
	status := 0
	if answer := (*smithyhttp.ResponseError)(nil); errors.As(refused, &answer) {
		status = answer.HTTPStatusCode()
	}
	t.find("throttling", api.ErrorCode() == "ThrottlingException" && status == 400, "%s with HTTP status %d", api.ErrorCode(), status)
	return hasKey(t.taskDir(), t.published)
}

// callUntilRefused returns the first error that is not the end of ctx, which it cancels then.
func (t *trial) callUntilRefused(ctx context.Context, cancel func(), client *ssm.Client) error {
	var calling sync.WaitGroup
	defer calling.Wait()
	first := make(chan error, throttleCallers)
	for range throttleCallers {
		calling.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{t.parameter("key")}}); err != nil {
					first <- err
					return
				}
			}
		})
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-first:
		cancel()
		return err
	}
}

// managedSecret publishes a key of Secrets Manager, whose JSON has account, user and passphrase with it.
func (t *trial) managedSecret(ctx context.Context) error {
	secret := t.name + "/key"
	if err := t.ledger.add(removal{What: "the secret " + secret, AWS: [][]string{
		{"secretsmanager", "delete-secret", "--secret-id", secret, "--force-delete-without-recovery"},
	}}); err != nil {
		return err
	}
	value := map[string]string{"account": t.snowflake.Account, "user": t.login()}
	for field, name := range map[string]string{"privateKey": "key", "passphrase": "passphrase"} {
		var answer struct{ Parameter struct{ Value string } }
		if err := t.aws.into(ctx, &answer, "ssm", "get-parameter", "--with-decryption", "--name", t.parameter(name)); err != nil {
			return err
		}
		value[field] = answer.Parameter.Value
	}
	file := t.path("secret.json")
	if err := os.WriteFile(file, printable(value), 0o600); err != nil {
		return err
	}
	var created struct{ ARN string }
	if err := t.aws.into(ctx, &created, "secretsmanager", "create-secret", "--name", secret, "--kms-key-id", t.kmsKey,
		"--secret-string", "file://"+file); err != nil {
		return err
	}
	policy, err := t.policy(secretPolicy)
	if err != nil {
		return err
	}
	suffix := created.ARN[strings.LastIndex(created.ARN, "-")+1:]
	if err := t.assumeRole(ctx, secretPolicy, strings.ReplaceAll(policy, "SUFFIX", suffix)); err != nil {
		return err
	}
	dir, err := t.mkdir("secret")
	if err != nil {
		return err
	}
	return eventually(ctx, time.Minute, func() error {
		if _, err := t.sidecar(ctx, secretPolicy, "once", "--verify", "--dir="+dir, "--key-parameter=/aws/reference/secretsmanager/"+secret); err != nil {
			return err
		}
		return hasKey(dir, t.published)
	})
}

// Limits of names, as AWS documents them: with the ARN before it a name has up to 1011 characters.
const maxName = 1011

// parameterLimits checks what the local SSM says about names and tiers.
func (t *trial) parameterLimits(ctx context.Context) error {
	name := t.parameter("limits")
	arn := fmt.Sprintf("arn:%s:ssm:%s:%s:parameter", t.partition, t.aws.region, t.accountID)
	long := name + strings.Repeat("x", maxName+1-len(arn)-len(name))
	if err := t.ledger.add(removal{What: "the parameters for limits", AWS: [][]string{{"ssm", "delete-parameters", "--names", name, long}}}); err != nil {
		return err
	}
	put := func(name string, more ...string) error {
		_, err := t.aws.run(ctx, append([]string{"ssm", "put-parameter", "--name", name, "--type", "String", "--value", "none"}, more...)...)
		return err
	}
	expiration := printable([]any{map[string]any{"Type": "Expiration", "Version": "1.0",
		"Attributes": map[string]string{"Timestamp": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)}}})
	err := put(name, "--tier", "Standard", "--policies", string(expiration))
	t.find("policies in the standard tier", err != nil, "%s", orStored(err))
	err = put(long)
	t.find("long names", err != nil && strings.Contains(err.Error(), "ValidationException"), "a name of %d characters with its ARN: %s", len(arn)+len(long), orStored(err))
	return t.withoutDecryption(ctx, name)
}

func orStored(err error) string {
	if err == nil {
		return "it was stored"
	}
	return err.Error()
}

// withoutDecryption reads the key as a role that may not decrypt it.
func (t *trial) withoutDecryption(ctx context.Context, name string) error {
	if t.kmsKey == "" {
		return notRun("it needs the step KMS key")
	}
	if _, err := t.aws.run(ctx, "ssm", "put-parameter", "--overwrite", "--name", name, "--type", "SecureString", "--key-id", t.kmsKey, "--value", "none"); err != nil {
		return err
	}
	policy := printable(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": fmt.Sprintf("arn:%s:ssm:%s:%s:parameter%s", t.partition, t.aws.region, t.accountID, name),
	}}})
	if err := t.assumeRole(ctx, undecryptedPolicy, string(policy)); err != nil {
		return err
	}
	var answer struct{ Parameters []struct{ Version int64 } }
	err := eventually(ctx, time.Minute, func() error {
		return t.aws.as(t.roles[undecryptedPolicy]).into(ctx, &answer, "ssm", "get-parameters", "--names", name)
	})
	t.find("kms:Decrypt for metadata", err == nil && len(answer.Parameters) == 1, "read without decryption by a role without kms:Decrypt: %s", orOK(err))
	return nil
}
