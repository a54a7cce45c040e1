package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

var accountInMessage = regexp.MustCompile(`arn:[a-z-]+:(?:sts|iam)::(\d{12}):`)

// explain gives an error of the SDK its class and says what to change.
func (s *SSM) explain(err error) error {
	text := err.Error()
	// Before the errors that SSM answers: where credentials come from answers with errors, too.
	if strings.Contains(text, "get credentials") || strings.Contains(text, "refresh cached credentials") {
		return failure.New(keyfile.ClassCredentials, fmt.Errorf("no AWS credentials: %w", err),
			"give the task a task role (taskRoleArn in the task definition); on a laptop set AWS_PROFILE")
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return s.explainAnswer(api)
	}
	way := fmt.Sprintf("check the way to ssm.%s.amazonaws.com:443 (a NAT gateway, or VPC endpoints for ssm and kms and "+
		"their security groups), or to what AWS_ENDPOINT_URL_SSM names", s.region)
	if errors.Is(err, context.DeadlineExceeded) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s did not answer within %v: %w", s.region, CallTimeout, err), way)
	}
	if notReached(err) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s was not reached: %w", s.region, err), way)
	}
	return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s: %w", s.region, err), "")
}

func notReached(err error) bool {
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// explainAnswer is for errors that AWS answered. Their text names resources and carries no secret.
func (s *SSM) explainAnswer(api smithy.APIError) error {
	cause := errors.New(strings.TrimSuffix(api.ErrorCode()+": "+api.ErrorMessage(), ": "))
	switch api.ErrorCode() {
	case "AccessDeniedException":
		return s.denied(cause, api.ErrorMessage())
	case "InvalidKeyId":
		return failure.New(keyfile.ClassKMS, cause,
			"enable the KMS key, or store the parameter again as a SecureString under one that is enabled")
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
		return failure.New(keyfile.ClassThrottled, cause,
			"lengthen --interval, or enable higher throughput for Parameter Store in this account and Region")
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException",
		"IncompleteSignature", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return failure.New(keyfile.ClassCredentials, cause, "check the credentials, and the clock of this machine")
	case "InternalServerError", "InternalFailure", "ServiceUnavailable":
		return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s failed: %w", s.region, cause),
			"nothing to do here: the sidecar tries again; see the AWS Health Dashboard if it lasts")
	default:
		return failure.New(keyfile.ClassOther, cause, "")
	}
}

// denied tells SSM's refusal from KMS's, which SSM passes on under the same name.
func (s *SSM) denied(cause error, message string) error {
	account := ""
	if m := accountInMessage.FindStringSubmatch(message); m != nil {
		account = m[1]
	}
	var arns []string
	for _, n := range s.names() {
		arns = append(arns, n.arn(s.region, account))
	}
	if strings.Contains(message, "ssm:GetParameter") {
		return failure.New(keyfile.ClassAccessDenied, cause,
			"allow ssm:GetParameters in the task role on "+strings.Join(arns, " and "))
	}
	return failure.New(keyfile.ClassKMS, cause, fmt.Sprintf(
		"allow kms:Decrypt in the task role on the KMS key that encrypts the parameters, "+
			"with kms:EncryptionContext:PARAMETER_ARN = %s", strings.Join(arns, " and ")))
}
