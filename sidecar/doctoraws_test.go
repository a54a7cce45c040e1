package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
)

// awsAilments are of AWS: how it is reached, its parameters, and the key in them.
var awsAilments = []ailment{
	{name: "no region", spoil: ofTask(unset("AWS_REGION")), lines: `fail  aws region: none; set AWS_REGION, or name the parameter by its ARN
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")},
	{name: "no such profile", spoil: ofTask(func(k *task) { k.env["AWS_PROFILE"] = "nobody" }), lines: `fail  aws region: AWS settings: there is no profile of the name in AWS_PROFILE; check AWS_PROFILE, AWS_CONFIG_FILE and the other AWS_ variables
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")},
	{name: "no credentials", spoil: ofTask(unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")), lines: `fail  aws credentials: none: failed to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled to EC2 IMDS via client option, or "AWS_EC2_METADATA_DISABLED" environment variable; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; in an ECS task give it a task role (taskRoleArn in the task definition)
` + fmt.Sprintf(noParameters, "aws credentials failed")},
	{name: "credentials that STS refuses", spoil: ofTask(func(k *task) {
		k.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
			if c.Action != "GetCallerIdentity" {
				return nil
			}
			return &localssm.Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid."}
		})
	}), lines: `fail  aws credentials: from AWS_ACCESS_KEY_ID, and STS refuses them: InvalidClientTokenId: The security token included in the request is invalid.; check the credentials, and the clock of this machine`},
	{name: "no way to STS", spoil: ofTask(func(k *task) { k.env["AWS_ENDPOINT_URL_STS"] = "http://" + freeAddress(k.t) }),
		lines: `warn  aws credentials: from AWS_ACCESS_KEY_ID, and STS was not reached to say to whom they belong; ignore this if the parameters can be read: run does not call STS`},
	{name: "a task without its role", spoil: ofTask(func(k *task) { k.env["ECS_CONTAINER_METADATA_URI_V4"] = "http://169.254.170.2/v4/x" }),
		lines: `warn  aws credentials: arn:aws:sts::123456789012:assumed-role/app-task/session (account 123456789012), from AWS_ACCESS_KEY_ID, in an ECS task that should use the task role; give the task a task role (taskRoleArn), and take other credentials out of the task definition`},
	{name: "no way to SSM", spoil: ofTask(closedPort), lines: `fail  ssm endpoint: http://HOST, from AWS_ENDPOINT_URL_SSM, does not answer: dial tcp HOST: connect: connection refused; correct AWS_ENDPOINT_URL_SSM, or start what it names
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a password in the endpoint", spoil: ofTask(func(k *task) {
		k.env["AWS_ENDPOINT_URL_SSM"] = strings.Replace(k.env["AWS_ENDPOINT_URL_SSM"], "//", "//user:"+url.QueryEscape(awsSecret)+"@", 1)
	}), lines: `fail  ssm endpoint: AWS_ENDPOINT_URL_SSM has a user or a password in it, which AWS does not take; write https://HOST without them
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a password in an endpoint that is malformed", spoil: ofTask(set("AWS_ENDPOINT_URL_SSM", "http://user:"+awsSecret+"@127.0.0.1:4566")),
		lines: `fail  ssm endpoint: AWS_ENDPOINT_URL_SSM is not the address of an endpoint; write https://HOST or http://HOST:PORT
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a program that its user may read", spoil: ofTask(func(k *task) { k.program = readable }),
		lines: `warn  other processes: not kept out while the sidecar starts: a process of the same user can open its memory and environment then, and keep reading; install the program as the image has it, owned by root with mode 0111, and run it as another user`},
	{name: "an endpoint without its scheme, by the variable of all services", spoil: ofTask(func(k *task) {
		unset("AWS_ENDPOINT_URL_SSM")(k)
		k.env["AWS_ENDPOINT_URL"] = "vpce-1.ssm.us-east-1.vpce.amazonaws.com"
	}), lines: `fail  ssm endpoint: AWS_ENDPOINT_URL is not the address of an endpoint; write https://HOST or http://HOST:PORT
skip  aws clock (ssm endpoint failed)
` + fmt.Sprintf(noParameters, "ssm endpoint failed")},
	{name: "a region with a space", spoil: ofTask(set("AWS_REGION", "us east-1")), lines: noRegion("AWS_REGION", "us-east-1")},
	{name: "a region in capitals, by the older variable", spoil: ofTask(func(k *task) {
		unset("AWS_REGION")(k)
		k.env["AWS_DEFAULT_REGION"] = "US_EAST_1"
	}), lines: noRegion("AWS_DEFAULT_REGION", "us-east-1")},
	{name: "an availability zone for the region", spoil: ofTask(set("AWS_REGION", "us-east-1a")), lines: noRegion("AWS_REGION", "us-east-1")},
	{name: "another region than the parameter's", spoil: ofTask(set("SNOWKEY_KEY_PARAMETER", "arn:aws:ssm:eu-central-1:123456789012:parameter/app/key")),
		lines: `fail  key parameter: no parameter arn:aws:ssm:eu-central-1:123456789012:parameter/app/key in us-east-1; set AWS_REGION=eu-central-1: SSM reads parameters of its own Region only
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "no permission", spoil: ofTask(func(k *task) { k.ssm.DenyParameter(keyParameter) }), lines: `fail  key parameter: AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app-task/session is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/key because no identity-based policy allows the ssm:GetParameters action; allow ssm:GetParameters in the task role on arn:aws:ssm:us-east-1:123456789012:parameter/app/key
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "no permission for the passphrase", spoil: ofTask(func(k *task) { k.ssm.DenyParameter(passParameter) }), lines: `fail  passphrase parameter: AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/app-task/session is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:us-east-1:123456789012:parameter/app/pass because no identity-based policy allows the ssm:GetParameters action; allow ssm:GetParameters in the task role on arn:aws:ssm:us-east-1:123456789012:parameter/app/pass
skip  passphrase decryption (passphrase parameter failed)
` + fmt.Sprintf(noKeyFrom, "passphrase parameter failed")},
	{name: "no kms:Decrypt", spoil: ofTask(func(k *task) { k.ssm.DenyDecrypt(keyParameter) }), lines: `fail  key decryption: AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: ID; Proxy: null); allow kms:Decrypt in the task role on the KMS key that encrypts the parameters, with kms:EncryptionContext:PARAMETER_ARN = arn:aws:ssm:us-east-1:ACCOUNT:parameter/app/key
` + fmt.Sprintf(noKeyFrom, "key decryption failed")},
	{name: "a disabled KMS key", spoil: ofTask(func(k *task) { k.ssm.DisableKMSKey(passParameter) }), lines: `fail  passphrase decryption: InvalidKeyId: arn:aws:kms:us-east-1:123456789012:key/ID is disabled. (Service: AWSKMS; Status Code: 400; Error Code: DisabledException; Request ID: ID; Proxy: null); enable the KMS key, or store the parameter again as a SecureString under one that is enabled
` + fmt.Sprintf(noKeyFrom, "passphrase decryption failed")},
	{name: "no key parameter", spoil: ofTask(func(k *task) { k.ssm.Delete(keyParameter) }), lines: `fail  key parameter: no parameter /app/key in us-east-1; create it there as a SecureString, or correct --key-parameter or --passphrase-parameter
skip  key decryption (key parameter failed)
` + fmt.Sprintf(noKeyFrom, "key parameter failed")},
	{name: "a passphrase in plain text", spoil: ofTask(func(k *task) {
		k.ssm.Delete(passParameter)
		client := ssm.New(ssm.Options{
			Region: "us-east-1", BaseEndpoint: aws.String(k.env["AWS_ENDPOINT_URL_SSM"]),
			Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", awsSecret, ""),
		})
		_, err := client.PutParameter(k.t.Context(), &ssm.PutParameterInput{
			Name: aws.String(passParameter), Value: aws.String(passphrase), Type: types.ParameterTypeString,
		})
		k.must(err)
	}), lines: `warn  passphrase parameter: /app/pass, String, version 1 of TIME, stored in plain text; store it again with --type SecureString under a customer managed key`},
	{name: "a wrong passphrase", spoil: ofTask(put(passParameter, wrongPassphrase)), lines: `ok    passphrase parameter: /app/pass, SecureString, version 2 of TIME
fail  passphrase: the passphrase does not open the key; try it with: openssl pkey -in KEY.p8 -noout, and store the key and passphrase that belong together
skip  key (passphrase failed)` + unusableKey},
	{name: "a passphrase in quotation marks", spoil: ofTask(put(passParameter, `"`+passphrase+"\"\n")), lines: `ok    passphrase parameter: /app/pass, SecureString, version 2 of TIME
warn  passphrase: the passphrase opens the key only without the line break after it, without the quotation marks around it; store it like that: other programs try it only as it is`},
	{name: "no passphrase", spoil: ofTask(unset("SNOWKEY_PASSPHRASE_PARAMETER")), lines: `skip  passphrase parameter (--passphrase-parameter is not set)
skip  passphrase decryption (--passphrase-parameter is not set)
fail  passphrase: the key is encrypted and no passphrase was given; set PRIVATE_KEY_PASSPHRASE, or beside --key-parameter name its parameter in --passphrase-parameter
skip  key (passphrase failed)` + unusableKey},
	{name: "an EC key", spoil: ofTask(putFile("ec.pem")), lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
skip  passphrase (the key cannot be used with any passphrase)
fail  key: the value holds a key of type EC, and Snowflake takes RSA only; make another: openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out KEY.p8` + unusableKey},
	{name: "a passphrase pasted for the key", spoil: ofTask(put(keyParameter, notAKey)), lines: `ok    key parameter: /app/key, SecureString, version 2 of TIME
skip  passphrase (the key cannot be used with any passphrase)
fail  key: the value is neither PEM nor base64; store the text of the key file, from -----BEGIN to -----END, e.g. --value file://rsa_key.p8; if that is the passphrase's parameter, swap --key-parameter and --passphrase-parameter` + unusableKey},
	{name: "a key in the environment", spoil: ofTask(func(k *task) {
		k.withoutAWS()
		k.env["SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = content(k.t, oldKey), passphrase
	}), lines: noAWS("SECRET_KEY")},
	{name: "a key in the environment, beside an application's SECRET_KEY", spoil: ofTask(func(k *task) {
		k.withoutAWS()
		k.env["SECRET_KEY"] = "an application's own"
		k.env["SNOWKEY_SECRET_KEY"], k.env["PRIVATE_KEY_PASSPHRASE"] = content(k.t, oldKey), passphrase
	}), lines: noAWS("SNOWKEY_SECRET_KEY")},
}

// noAWS are the lines of a key in the environment.
func noAWS(variable string) string {
	const checks = `skip  aws region (the key is in SECRET_KEY)
skip  aws credentials (the key is in SECRET_KEY)
skip  ssm endpoint (the key is in SECRET_KEY)
skip  aws clock (the key is in SECRET_KEY)
skip  key parameter (the key is in SECRET_KEY)
skip  key decryption (the key is in SECRET_KEY)
skip  passphrase parameter (the key is in SECRET_KEY)
skip  passphrase decryption (the key is in SECRET_KEY)`
	return strings.ReplaceAll(checks, "SECRET_KEY", variable)
}

// noRegion are the lines of a Region that does not exist.
func noRegion(variable, right string) string {
	return `fail  aws region: ` + variable + ` is not a Region as AWS writes it; write ` + right + `
skip  aws credentials (aws region failed)
skip  ssm endpoint (aws region failed)
skip  aws clock (aws region failed)
` + fmt.Sprintf(noParameters, "aws region failed")
}
