// Command plainsdk puts a key on disk as a Go developer writes it in ten minutes: the AWS SDK with its default
// settings, the decryption and the write. The sidecar is measured against it.
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/youmark/pkcs8"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "plainsdk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keyName, passphraseName, file string) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	out, err := ssm.NewFromConfig(cfg).GetParameters(ctx, &ssm.GetParametersInput{
		Names: []string{keyName, passphraseName}, WithDecryption: aws.Bool(true),
	})
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, p := range out.Parameters {
		values[aws.ToString(p.Name)] = aws.ToString(p.Value)
	}
	block, _ := pem.Decode([]byte(values[keyName]))
	if block == nil {
		return errors.New("no PEM")
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(values[passphraseName]))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, der, 0o440)
}
