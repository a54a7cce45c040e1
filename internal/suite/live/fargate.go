package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// fargate does what docs/first-task.md says, with names of this trial: images, stack, key, task, log. Then the same task
// has its key in memory alone.
func (t *trial) fargate(ctx context.Context) error {
	if t.emulated() != "" {
		return skipped("it takes real services, and here is an emulator of " + t.emulated())
	}
	if _, err := exec.LookPath("docker"); err != nil {
		return skipped("there is no docker, to build and push the images with")
	}
	digests, err := t.pushImages(ctx)
	if err != nil {
		return err
	}
	overrides, err := t.network(ctx)
	if err != nil {
		return err
	}
	stack := t.name + "-task"
	overrides = append(overrides,
		"SidecarRepository="+t.name+"-sidecar", "SidecarDigest="+digests["sidecar"],
		"AppRepository="+t.name+"-consumer", "AppDigest="+digests["consumer"],
		"KeyParameter="+t.parameter("task-key"), "PassphraseParameter="+t.parameter("task-passphrase"),
		"SnowflakeAccount="+t.snowflake.Account, "SnowflakeUser="+t.login())
	// The stack goes before what its tasks need.
	if err := t.parametersCleanup("task-key", "task-passphrase"); err != nil {
		return err
	}
	if err := t.cleanups.add(stackCleanup(stack)); err != nil {
		return err
	}
	if err := t.deploy(ctx, stack, overrides...); err != nil {
		return err
	}
	outputs, err := t.outputs(ctx, stack)
	if err != nil {
		return err
	}
	fingerprint, err := t.storeKey(ctx, outputs["KeyId"], "task-key", "task-passphrase")
	if err != nil {
		return err
	}
	if err := t.deploy(ctx, stack, "DesiredCount=1"); err != nil {
		return err
	}
	err = t.waitForLog(ctx, outputs["LogGroupName"], "sidecar", "key published", fingerprint)
	t.observe(ctx, "a volume on Fargate", err == nil, "the sidecar publishes there as uid 65532: %t", err == nil)
	if err != nil {
		return err
	}
	if err := t.waitForLog(ctx, outputs["LogGroupName"], "app", "answered", fingerprint); err != nil {
		return err
	}
	if err := t.deploy(ctx, stack, "KeyStorage=Memory"); err != nil {
		return err
	}
	err = t.waitForLog(ctx, outputs["LogGroupName"], "app", "rsa_key.der.sock", fingerprint)
	t.observe(ctx, "sockets on Fargate", err == nil, "a program in another container reads the key at a socket: %t", err == nil)
	return err
}

// deploy is the command of docs/first-task.md. It ends when the task is steady.
func (t *trial) deploy(ctx context.Context, stack string, overrides ...string) error {
	args := []string{"cloudformation", "deploy", "--stack-name", stack, "--template-file", "examples/taskdef/cloudformation.yaml",
		"--capabilities", "CAPABILITY_IAM", "--tags", keyTag + "=" + t.name, "--parameter-overrides"}
	_, err := t.aws.run(ctx, append(args, overrides...)...)
	return err
}

// network creates a cluster, and gives the default VPC's public subnets and security group.
func (t *trial) network(ctx context.Context) (overrides []string, err error) {
	if err := t.cleanups.add(cleanup{What: "the cluster " + t.name, AWS: [][]string{{"ecs", "delete-cluster", "--cluster", t.name}}}); err != nil {
		return nil, err
	}
	if _, err := t.aws.run(ctx, "ecs", "create-cluster", "--cluster-name", t.name); err != nil {
		return nil, err
	}
	var subnets struct {
		Subnets []struct {
			ID  string `json:"SubnetId"`
			VPC string `json:"VpcId"`
		}
	}
	if err := t.aws.runJSON(ctx, &subnets, "ec2", "describe-subnets", "--filters", "Name=default-for-az,Values=true"); err != nil {
		return nil, err
	}
	if len(subnets.Subnets) == 0 {
		return nil, errors.New("the Region has no default VPC: aws ec2 create-default-vpc")
	}
	// Not every availability zone has Fargate.
	var ids []string
	for _, subnet := range subnets.Subnets {
		if subnet.VPC == subnets.Subnets[0].VPC {
			ids = append(ids, subnet.ID)
		}
	}
	var groups struct {
		SecurityGroups []struct {
			ID string `json:"GroupId"`
		}
	}
	if err := t.aws.runJSON(ctx, &groups, "ec2", "describe-security-groups", "--filters", "Name=group-name,Values=default",
		"Name=vpc-id,Values="+subnets.Subnets[0].VPC); err != nil {
		return nil, err
	}
	if len(groups.SecurityGroups) == 0 {
		return nil, errors.New("the default VPC has no default security group")
	}
	return []string{"Cluster=" + t.name, "Subnets=" + strings.Join(ids, ","), "SecurityGroups=" + groups.SecurityGroups[0].ID,
		"AssignPublicIp=ENABLED"}, nil
}

// pushImages builds both images and gives their digests.
func (t *trial) pushImages(ctx context.Context) (map[string]string, error) {
	registry := fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com", t.accountID, t.aws.region)
	if t.partition == "aws-cn" {
		registry += ".cn"
	}
	password, err := t.aws.run(ctx, "ecr", "get-login-password")
	if err != nil {
		return nil, err
	}
	if err := t.docker(ctx, strings.NewReader(string(password)), "login", "--username", "AWS", "--password-stdin", registry); err != nil {
		return nil, err
	}
	// The user's own way to Docker is kept, and so the login is in the user's own configuration until here.
	defer func() { _ = t.docker(context.WithoutCancel(ctx), nil, "logout", registry) }()
	digests := map[string]string{}
	for _, target := range []string{"sidecar", "consumer"} {
		repository := t.name + "-" + target
		if err := t.cleanups.add(cleanup{What: "the repository " + repository, AWS: [][]string{
			{"ecr", "delete-repository", "--force", "--repository-name", repository},
		}}); err != nil {
			return nil, err
		}
		if _, err := t.aws.run(ctx, "ecr", "create-repository", "--repository-name", repository); err != nil {
			return nil, err
		}
		image := registry + "/" + repository + ":live"
		defer func() { _ = t.docker(context.WithoutCancel(ctx), nil, "rmi", image) }()
		if err := t.docker(ctx, nil, "build", "--platform", "linux/amd64", "--target", target, "-t", image, "."); err != nil {
			return nil, err
		}
		if err := t.docker(ctx, nil, "push", image); err != nil {
			return nil, err
		}
		var pushed struct {
			ImageDetails []struct{ ImageDigest string }
		}
		if err := t.aws.runJSON(ctx, &pushed, "ecr", "describe-images", "--repository-name", repository, "--image-ids", "imageTag=live"); err != nil {
			return nil, err
		}
		if len(pushed.ImageDetails) != 1 {
			return nil, fmt.Errorf("%s has %d images with the tag live", repository, len(pushed.ImageDetails))
		}
		digests[target] = pushed.ImageDetails[0].ImageDigest
	}
	return digests, nil
}

func (t *trial) docker(ctx context.Context, stdin io.Reader, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, lastLines(string(out), 5))
	}
	return nil
}

// waitForLog waits until a container's log has a line with these words and the key's fingerprint.
func (t *trial) waitForLog(ctx context.Context, group, container, words, fingerprint string) error {
	return eventually(ctx, 10*time.Minute, func() error {
		var answer struct{ Events []struct{ Message string } }
		if err := t.aws.runJSON(ctx, &answer, "logs", "filter-log-events", "--log-group-name", group, "--log-stream-name-prefix", container); err != nil {
			return err
		}
		for _, event := range answer.Events {
			if strings.Contains(event.Message, words) && strings.Contains(event.Message, fingerprint) {
				return nil
			}
		}
		return fmt.Errorf("the log of %s has no line with %q and the key's fingerprint", container, words)
	})
}
