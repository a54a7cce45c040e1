package ssm

import (
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// explainRead is for errors with a meaning of their own for a reader.
func (r *Reader) explainRead(api smithy.APIError, names []Name) *failure.Error {
	cause := Answer(api)
	switch {
	case api.ErrorCode() == "AccessDeniedException" && r.provider.withNodesRole():
		return failure.New(keyfile.ClassAccessDenied, cause, "these are the credentials of the node: "+platform.Here().GiveRole())
	case api.ErrorCode() == "AccessDeniedException":
		return r.denied(cause, api.ErrorMessage(), names)
	case api.ErrorCode() == "ParameterNotFound", api.ErrorCode() == "ParameterVersionNotFound":
		return failure.New(keyfile.ClassNotFound, cause, "create it in "+r.region+", or correct --key-parameter or --passphrase-parameter")
	case api.ErrorCode() == "InvalidKeyId":
		return failure.New(keyfile.ClassKMS, cause,
			"enable the KMS key, or store the parameter again as a SecureString under one that is enabled")
	case throttled(api):
		return failure.New(keyfile.ClassThrottled, cause,
			"nothing to do at first: run and exec refresh less often meanwhile; if it lasts, enable higher throughput for Parameter Store in this account and Region")
	case serviceFailed(api):
		return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s failed: %w", r.region, cause),
			"nothing to do here: the sidecar tries again; see the AWS Health Dashboard if it lasts")
	}
	return nil
}

// denied separates SSM's refusal from those of KMS and Secrets Manager, which SSM passes on under the same
// name.
func (r *Reader) denied(cause error, message string, names []Name) *failure.Error {
	account := accountOf(message)
	var arns, secrets, parameters []string
	for _, n := range names {
		arns = append(arns, n.ARN(r.region, account))
		if n.SecretsManager() {
			secrets = append(secrets, n.secretARN(r.region, account))
		} else {
			parameters = append(parameters, n.ARN(r.region, account))
		}
	}
	switch {
	case strings.Contains(message, "ssm:GetParameter"):
		return failure.New(keyfile.ClassAccessDenied, cause,
			"allow ssm:GetParameters in "+platform.Here().Role()+" on "+and(arns))
	case strings.Contains(message, "secretsmanager:GetSecretValue"):
		return failure.New(keyfile.ClassAccessDenied, cause,
			"allow secretsmanager:GetSecretValue in "+platform.Here().Role()+" on "+and(secrets))
	}
	var keys []string
	if parameters != nil {
		keys = append(keys, "the KMS key that encrypts the parameters, with kms:EncryptionContext:PARAMETER_ARN = "+and(parameters))
	}
	if secrets != nil {
		keys = append(keys, "the KMS key that encrypts the secret, with kms:EncryptionContext:SecretARN = "+and(secrets))
	}
	return failure.New(keyfile.ClassKMS, cause, "allow kms:Decrypt in "+platform.Here().Role()+" on "+and(keys))
}

func and(list []string) string { return strings.Join(list, " and ") }
