package ssm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// explain gives an error of the SDK its class and advice. answered is for an error that AWS answered, and gives nil for
// one that means the same in every call.
func (e endpoint) explain(err error, answered func(smithy.APIError) *failure.Error) error {
	// Before the errors that SSM answers: the source of the credentials answers with errors, too.
	if failed, cause := credentialsFailed(err); failed {
		if errors.Is(cause, context.DeadlineExceeded) && !errors.As(cause, new(failedCall)) {
			cause := fmt.Errorf("no AWS credentials: %v did not answer within %v", e.provider, e.timeout)
			return failure.New(keyfile.ClassCredentials, cause, e.provider.Advice(cause))
		}
		return failure.New(keyfile.ClassCredentials, fmt.Errorf("no AWS credentials: %w", CredentialsError(cause)), e.provider.Advice(cause))
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if explained := answered(api); explained != nil {
			return explained
		}
		return explainCommon(api)
	}
	advice, shown := e.wayAdvice(err), failure.Redact(err)
	if errors.Is(err, context.DeadlineExceeded) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s did not answer within %v: %w", e.region, e.timeout, shown), advice)
	}
	if notReached(err) {
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s was not reached: %w", e.region, shown), advice)
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok { // cut on its way, or not from SSM
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s gave an answer that cannot be read: %w", e.region, shown), advice)
	}
	if strings.Contains(err.Error(), "failed to resolve service endpoint") {
		return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s: %w", e.region, shown), "correct AWS_REGION, or AWS_ENDPOINT_URL_SSM")
	}
	return failure.New(keyfile.ClassOther, fmt.Errorf("SSM in %s: %w", e.region, shown), "")
}

func notReached(err error) bool {
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, errRedirect)
}

// Answer is the error that AWS answered, cut and on one line. Its text names resources and carries no secret.
func Answer(api smithy.APIError) error {
	return errors.New(failure.Text(strings.TrimSuffix(api.ErrorCode()+": "+api.ErrorMessage(), ": ")))
}

// explainCommon is for errors that mean the same in every call.
func explainCommon(api smithy.APIError) error {
	cause := Answer(api)
	switch api.ErrorCode() {
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException",
		"IncompleteSignature", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return failure.New(keyfile.ClassCredentials, cause, "check the credentials, and the clock of this machine")
	default:
		return failure.New(keyfile.ClassOther, cause, "")
	}
}

func throttled(api smithy.APIError) bool {
	switch api.ErrorCode() {
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
		return true
	}
	return false
}

// serviceFailed reports whether AWS answered that it failed itself.
func serviceFailed(api smithy.APIError) bool {
	switch api.ErrorCode() {
	case "InternalServerError", "InternalFailure", "ServiceUnavailable":
		return true
	}
	return false
}

var (
	accountInMessage  = lazyregexp.New(`arn:[a-z-]+:(?:sts|iam)::(\d{12}):`)
	resourceInMessage = lazyregexp.New(`on resource: (arn:[a-z-]+:ssm:[a-z0-9-]+:\d{12}:parameter/[a-zA-Z0-9_./-]+)`)
)

// accountOf is the caller's account in a message of IAM, "" if there is none.
func accountOf(message string) string {
	if m := accountInMessage().FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// resourceOf is the ARN of the parameter that a message of IAM is about, "" if there is none.
func resourceOf(message string) string {
	if m := resourceInMessage().FindStringSubmatch(message); m != nil {
		return strings.TrimSuffix(m[1], ".")
	}
	return ""
}
