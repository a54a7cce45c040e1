package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	throttleTimeout = 3 * sidecarInterval
)

// throttle uses up what SSM allows. The running sidecar keeps its key meanwhile, and no query fails.
func (t *trial) throttle(ctx context.Context) error {
	if t.aws.endpoint != "" {
		return skipped("the emulator of AWS throttles nobody")
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM"} { // the profile says where AWS is
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	awsConfig, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(t.aws.profile), config.WithRegion(t.aws.region))
	if err != nil {
		return err
	}
	awsConfig.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	err = t.throttleUntil(ctx, ssm.NewFromConfig(awsConfig))
	var api smithy.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("SSM refused nothing within %s: %w", throttleTimeout, err)
	}
	status := 0
	if answer := (*smithyhttp.ResponseError)(nil); errors.As(err, &answer) {
		status = answer.HTTPStatusCode()
	}
	if !strings.Contains(api.ErrorCode(), "hrottl") && status != http.StatusTooManyRequests {
		return fmt.Errorf("SSM refuses, and not because of the rate: %w", err)
	}
	t.observe(ctx, "throttling", api.ErrorCode() == "ThrottlingException" && status == 400, "%s with HTTP status %d", api.ErrorCode(), status)
	return checkPublished(t.taskDir(), t.published)
}

// throttleUntil calls as fast as it can for some intervals of the running sidecar, and returns the first refusal.
func (t *trial) throttleUntil(ctx context.Context, client *ssm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, throttleTimeout)
	defer cancel()
	var calling sync.WaitGroup
	first := make(chan error, 1)
	for range throttleCallers {
		calling.Go(func() {
			for ctx.Err() == nil {
				_, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{t.parameter("key")}})
				if err == nil || ctx.Err() != nil {
					continue
				}
				select {
				case first <- err:
				default:
				}
			}
		})
	}
	calling.Wait()
	select {
	case err := <-first:
		return err
	default:
		return ctx.Err()
	}
}

// managedSecret publishes a key of Secrets Manager, whose JSON has account, user and passphrase with it.
func (t *trial) managedSecret(ctx context.Context) error {
	secret := t.name + "/key"
	if err := t.cleanups.add(cleanup{What: "the secret " + secret, AWS: [][]string{
		{"secretsmanager", "delete-secret", "--secret-id", secret, "--force-delete-without-recovery"},
	}}); err != nil {
		return err
	}
	value := map[string]string{"account": t.snowflake.Account, "user": t.login()}
	for field, name := range map[string]string{"privateKey": "key", "passphrase": "passphrase"} {
		var answer struct{ Parameter struct{ Value string } }
		if err := t.aws.runJSON(ctx, &answer, "ssm", "get-parameter", "--with-decryption", "--name", t.parameter(name)); err != nil {
			return err
		}
		value[field] = answer.Parameter.Value
	}
	file := t.path("secret.json")
	if err := os.WriteFile(file, encodeJSON(value), 0o600); err != nil {
		return err
	}
	var created struct{ ARN string }
	err := t.aws.runJSON(ctx, &created, "secretsmanager", "create-secret", "--name", secret, "--kms-key-id", t.kmsKey, "--secret-string", "file://"+file)
	if err := errors.Join(err, os.Remove(file)); err != nil {
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
		return checkPublished(dir, t.published)
	})
}

// maxARNLength is AWS's limit for a parameter's ARN.
const maxARNLength = 1011

// parameterLimits checks what the local SSM says about names and tiers.
func (t *trial) parameterLimits(ctx context.Context) error {
	name := t.parameter("limits")
	arn := fmt.Sprintf("arn:%s:ssm:%s:%s:parameter", t.partition, t.aws.region, t.accountID)
	long := name + strings.Repeat("x", maxARNLength+1-len(arn)-len(name))
	for _, stored := range []string{name, long} {
		if err := t.cleanups.add(cleanup{What: "a parameter for limits", AWS: [][]string{{"ssm", "delete-parameters", "--names", stored}}}); err != nil {
			return err
		}
	}
	put := func(name string, more ...string) error {
		_, err := t.aws.run(ctx, append([]string{"ssm", "put-parameter", "--name", name, "--type", "String", "--value", "none"}, more...)...)
		return err
	}
	expiration := encodeJSON([]any{map[string]any{"Type": "Expiration", "Version": "1.0",
		"Attributes": map[string]string{"Timestamp": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)}}})
	for name, err := range map[string]error{
		"policies in the standard tier": put(name, "--tier", "Standard", "--policies", string(expiration)),
		"long names":                    put(long),
	} {
		if err != nil && errorCode(err) != validationError {
			return err
		}
		t.observe(ctx, name, err != nil, "%s", codeOrStored(err))
	}
	return nil
}

const validationError = "ValidationException"

func codeOrStored(err error) string {
	if err == nil {
		return "stored"
	}
	return codeOrOK(err)
}

// withoutDecryption reads a parameter as a role that may not decrypt it.
func (t *trial) withoutDecryption(ctx context.Context) error {
	name := t.parameter("undecrypted")
	if err := t.cleanups.add(cleanup{What: "the parameter " + name, AWS: [][]string{{"ssm", "delete-parameters", "--names", name}}}); err != nil {
		return err
	}
	if _, err := t.aws.run(ctx, "ssm", "put-parameter", "--name", name, "--type", "SecureString", "--key-id", t.kmsKey, "--value", "none"); err != nil {
		return err
	}
	policy := encodeJSON(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": fmt.Sprintf("arn:%s:ssm:%s:%s:parameter%s", t.partition, t.aws.region, t.accountID, name),
	}}})
	if err := t.assumeRole(ctx, undecryptedPolicy, string(policy)); err != nil {
		return err
	}
	var answer struct{ Parameters []struct{ Version int64 } }
	err := eventually(ctx, time.Minute, func() error {
		return t.aws.withRole(t.roles[undecryptedPolicy]).runJSON(ctx, &answer, "ssm", "get-parameters", "--names", name)
	})
	if err != nil && errorCode(err) != "AccessDeniedException" {
		return err
	}
	t.observe(ctx, "kms:Decrypt for metadata", err == nil && len(answer.Parameters) == 1, "%s", codeOrOK(err))
	return nil
}
