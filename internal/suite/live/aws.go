package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An awsCLI is the AWS CLI with a profile: what an administrator types, and what the documents say.
type awsCLI struct {
	profile  string
	region   string
	endpoint string // of an emulator, by the profile's endpoint_url; "" is AWS
	version  string
	role     []string // variables with the credentials of a role; nil: the profile's own
}

// awsTimeout is for one call. Waiting for a stack is many calls.
const awsTimeout = 30 * time.Minute

func newAWSCLI(ctx context.Context, profile string) (*awsCLI, error) {
	a := &awsCLI{profile: profile}
	if _, err := exec.LookPath("aws"); err != nil {
		return nil, errors.New("there is no AWS CLI; install it: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html")
	}
	version, err := a.run(ctx, "--version")
	if err != nil {
		return nil, err
	}
	a.version, _, _ = strings.Cut(strings.TrimSpace(string(version)), " ")
	a.endpoint = a.profileValue(ctx, "endpoint_url")
	if a.region = a.profileValue(ctx, "region"); a.region == "" {
		return nil, fmt.Errorf("the profile %s has no Region: aws configure set region eu-central-1 --profile %s", profile, profile)
	}
	return a, nil
}

// profileValue is a setting of the profile, "" if it is not set.
func (a *awsCLI) profileValue(ctx context.Context, name string) string {
	value, _ := a.run(ctx, "configure", "get", name)
	return strings.TrimSpace(string(value))
}

// run returns what a command prints. No argument may be a secret: other users of this machine see it.
func (a *awsCLI) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "aws", args...)
	cmd.Env = append(withoutOverrides(os.Environ()), "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "AWS_DEFAULT_OUTPUT=json")
	cmd.Env = append(cmd.Env, a.environ()...)
	cmd.WaitDelay = 10 * time.Second
	inOwnGroup(cmd)
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	said := ""
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		said = strings.Join(strings.Fields(string(exit.Stderr)), " ")
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out, fmt.Errorf("aws %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, said)
}

var codeInError = regexp.MustCompile(`An error occurred \((\w+)\) when calling`)

// errorCode is AWS's code in an error of the CLI, "" if it has none.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	if code := codeInError.FindStringSubmatch(err.Error()); code != nil {
		return code[1]
	}
	return ""
}

// environ has the variables that say who calls, and where.
func (a *awsCLI) environ() []string {
	if a.role == nil {
		return []string{"AWS_PROFILE=" + a.profile}
	}
	environ := append([]string{"AWS_DEFAULT_REGION=" + a.region}, a.role...)
	if a.endpoint != "" {
		environ = append(environ, "AWS_ENDPOINT_URL="+a.endpoint)
	}
	return environ
}

// withRole calls with the credentials of a role.
func (a *awsCLI) withRole(role credentials) *awsCLI {
	b := *a
	b.role = role.environ()
	return &b
}

// runJSON decodes what a command prints.
func (a *awsCLI) runJSON(ctx context.Context, value any, args ...string) error {
	out, err := a.run(ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, value); err != nil {
		return fmt.Errorf("aws %s: %w", strings.Join(args[:2], " "), err)
	}
	return nil
}

// credentials are a role's, after it was assumed, as variables for the sidecar.
type credentials struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
}

func (c credentials) environ() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_SESSION_TOKEN=" + c.SessionToken}
}

// String keeps the credentials out of every message.
func (c credentials) String() string { return "credentials" }

// GoString does, too.
func (c credentials) GoString() string { return c.String() }

// overrides begin the variables of the shell that would change what the programs do. AWS's own stay where they
// say how to log in.
var overrides = []string{
	"SNOWKEY_", "SNOWFLAKE_", "SECRET_KEY=", "PRIVATE_KEY_PASSPHRASE=", "AWS_REGION=", "AWS_DEFAULT_REGION=", "AWS_PROFILE=",
	"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_DEFAULT_OUTPUT=",
}

func withoutOverrides(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return slices.ContainsFunc(overrides, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
	})
}

// encodeJSON is the JSON of a value as people would write it: & and < stay as they are.
func encodeJSON(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value)
	return out.Bytes()
}
