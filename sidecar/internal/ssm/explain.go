package ssm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

var accountInMessage = regexp.MustCompile(`arn:[a-z-]+:(?:sts|iam)::(\d{12}):`)

// explain gives an error of the SDK its class and says what to change.
func (r *Reader) explain(err error, names []Name) error {
	return Explain(err, r.region, func(api smithy.APIError) *failure.Error { return r.explainAnswer(api, names) })
}

// Explain gives an error of the SDK its class and says what to change. answer is for what only the caller
// can tell of an error that AWS answered; where it gives nil, that is for Explain as well.
func Explain(err error, region string, answer func(smithy.APIError) *failure.Error) error {
	if _, ok := errors.AsType[*processcreds.ProviderError](err); ok { // which repeats what the program printed
		return failure.New(keyfile.ClassCredentials, errors.New("no AWS credentials: credential_process of the AWS profile gave none"),
			"run it by hand and see what it says")
	}
	text := err.Error()
	// Before the errors that SSM answers: where credentials come from answers with errors, too.
	if strings.Contains(text, "get credentials") || strings.Contains(text, "refresh cached credentials") {
		return failure.New(keyfile.ClassCredentials, fmt.Errorf("no AWS credentials: %w", Shown(err)),
			"give the task a task role (taskRoleArn in the task definition); on a laptop set AWS_PROFILE")
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if explained := answer(api); explained != nil {
			return explained
		}
		return explainAnswer(api)
	}
	way := fmt.Sprintf("check the way to ssm.%s.amazonaws.com:443 (a NAT gateway, or VPC endpoints for ssm and kms and "+
		"their security groups), or to what AWS_ENDPOINT_URL_SSM names", region)
	if errors.Is(err, context.DeadlineExceeded) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s did not answer within %v: %w", region, CallTimeout, err), way)
	}
	if notReached(err) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s was not reached: %w", region, err), way)
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok { // cut on its way, or somebody else's
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s gave an answer that cannot be read: %w", region, err), way)
	}
	return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s: %w", region, err), "")
}

func notReached(err error) bool {
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// Cause is what AWS answered. Its text names resources and carries no secret.
func Cause(api smithy.APIError) error {
	return errors.New(strings.TrimSuffix(api.ErrorCode()+": "+api.ErrorMessage(), ": "))
}

// explainAnswer is for errors that mean the same whatever was asked.
func explainAnswer(api smithy.APIError) error {
	cause := Cause(api)
	switch api.ErrorCode() {
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException",
		"IncompleteSignature", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return failure.New(keyfile.ClassCredentials, cause, "check the credentials, and the clock of this machine")
	default:
		return failure.New(keyfile.ClassOther, cause, "")
	}
}

// Throttled reports whether AWS answered that it was asked too often.
func Throttled(api smithy.APIError) bool {
	switch api.ErrorCode() {
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
		return true
	}
	return false
}

// ServiceFailed reports whether AWS answered that it failed itself.
func ServiceFailed(api smithy.APIError) bool {
	switch api.ErrorCode() {
	case "InternalServerError", "InternalFailure", "ServiceUnavailable":
		return true
	}
	return false
}

// explainAnswer is for errors that mean something of their own to one who reads.
func (r *Reader) explainAnswer(api smithy.APIError, names []Name) *failure.Error {
	cause := Cause(api)
	switch {
	case api.ErrorCode() == "AccessDeniedException":
		return r.denied(cause, api.ErrorMessage(), names)
	case api.ErrorCode() == "ParameterNotFound", api.ErrorCode() == "ParameterVersionNotFound":
		return failure.New(keyfile.ClassNotFound, cause, "create it in "+r.region+", or correct --key-parameter or --passphrase-parameter")
	case api.ErrorCode() == "InvalidKeyId":
		return failure.New(keyfile.ClassKMS, cause,
			"enable the KMS key, or store the parameter again as a SecureString under one that is enabled")
	case Throttled(api):
		return failure.New(keyfile.ClassThrottled, cause,
			"nothing if it passes, since run and exec look less often meanwhile; if it does not, enable higher throughput for Parameter Store in this account and Region")
	case ServiceFailed(api):
		return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s failed: %w", r.region, cause),
			"nothing to do here: the sidecar tries again; see the AWS Health Dashboard if it lasts")
	}
	return nil
}

// AccountIn is the account that a message of IAM names, "" if none.
func AccountIn(message string) string {
	if m := accountInMessage.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// denied tells SSM's refusal from those of KMS and Secrets Manager, which SSM passes on under the same
// name.
func (r *Reader) denied(cause error, message string, names []Name) *failure.Error {
	account := AccountIn(message)
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
			"allow ssm:GetParameters in the task role on "+and(arns))
	case strings.Contains(message, "secretsmanager:GetSecretValue"):
		return failure.New(keyfile.ClassAccessDenied, cause,
			"allow secretsmanager:GetSecretValue in the task role on "+and(secrets))
	}
	var keys []string
	if parameters != nil {
		keys = append(keys, "the KMS key that encrypts the parameters, with kms:EncryptionContext:PARAMETER_ARN = "+and(parameters))
	}
	if secrets != nil {
		keys = append(keys, "the KMS key that encrypts the secret, with kms:EncryptionContext:SecretARN = "+and(secrets))
	}
	return failure.New(keyfile.ClassKMS, cause, "allow kms:Decrypt in the task role on "+and(keys))
}

func and(list []string) string { return strings.Join(list, " and ") }
