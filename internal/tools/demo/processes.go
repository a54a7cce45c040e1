package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/tools/process"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// start runs a binary that build made; each line that it prints also goes to onLine.
func (d *demo) start(name string, environ []string, onLine func(string), args ...string) (*process.Process, error) {
	cmd := exec.Command(filepath.Join(d.work, name), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.work, "TMPDIR=" + d.work}, environ...)
	p, err := process.Start(name, cmd, onLine)
	if err != nil {
		return nil, err
	}
	d.processes = append(d.processes, p)
	return p, nil
}

func (d *demo) startCloud(ctx context.Context, first pair) error {
	addresses := make(chan string, 16)
	cloud, err := d.start("localcloud", nil, func(line string) {
		select {
		case addresses <- line:
		default:
		}
	}, "-ssm=127.0.0.1:0", "-snowflake=127.0.0.1:0", "-account="+account, "-user="+user, "-public-key="+first.publicFile,
		"-login-latency=200ms", "-query-latency=5ms")
	if err != nil {
		return err
	}
	for _, into := range []**url.URL{&d.ssm, &d.snowflake} {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-cloud.Done():
			return errors.New("localcloud ended early")
		case line := <-addresses:
			_, address, _ := strings.Cut(line, " ")
			if *into, err = url.Parse(address); err != nil {
				return fmt.Errorf("localcloud printed %q: %w", line, err)
			}
		}
	}
	return nil
}

func (d *demo) put(ctx context.Context, name, value string) error {
	client := ssm.New(ssm.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(d.ssm.String()),
		Credentials:  credentials.NewStaticCredentialsProvider("demo", "demo", ""),
	})
	_, err := client.PutParameter(ctx, &ssm.PutParameterInput{
		Name: &name, Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	})
	return err
}

func (d *demo) startSidecar() error {
	_, err := d.start("sidecar", []string{
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=demo", "AWS_SECRET_ACCESS_KEY=demo",
		"AWS_ENDPOINT_URL_SSM=" + d.ssm.String(),
	}, nil, "run",
		"--key-parameter="+keyParameter, "--passphrase-parameter="+passphraseParameter,
		"--dir="+d.keys, "--interval="+interval.String())
	return err
}

func (d *demo) startConsumer() (*process.Queries, error) {
	q := process.NewQueries()
	_, err := d.start("consumer", []string{
		"SNOWFLAKE_ACCOUNT=" + account, "SNOWFLAKE_USER=" + user,
		"SNOWFLAKE_PROTOCOL=" + d.snowflake.Scheme, "SNOWFLAKE_HOST=" + d.snowflake.Hostname(), "SNOWFLAKE_PORT=" + d.snowflake.Port(),
		"SNOWFLAKE_PRIVATE_KEY_PATH=" + d.keyPath(),
		// There is no cloud around this process to detect, and its detection takes a while to find out.
		"SNOWFLAKE_DISABLE_PLATFORM_DETECTION=true",
	}, q.Line, "-interval=20ms", "-workers=4")
	return q, err
}

func (d *demo) keyPath() string { return filepath.Join(d.keys, keyfile.DER.FileName()) }

// administrator is somebody who may alter the user; here the user itself.
func (d *demo) administrator(ctx context.Context) (*sql.DB, error) {
	port, err := strconv.Atoi(d.snowflake.Port())
	if err != nil {
		return nil, err
	}
	return snowkey.Open(ctx, d.keyPath(), gosnowflake.Config{
		Account: account, User: user, Protocol: d.snowflake.Scheme, Host: d.snowflake.Hostname(), Port: port,
	})
}

func alter(ctx context.Context, db *sql.DB, change string) error {
	_, err := db.ExecContext(ctx, "ALTER USER "+user+" "+change)
	return err
}
