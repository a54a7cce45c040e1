package ssm

import (
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// A call has what the advice about its error names.
type call struct {
	name Name
	kms  string // the action that SSM takes in KMS, "" for none
	key  string // the KMS key that was named, "" for none
}

func (s *Store) explain(err error, c call) error {
	return s.client.explain(err, func(api smithy.APIError) *failure.Error { return s.explainAnswer(api, c) })
}

var deniedAction = lazyregexp.New(`perform: (ssm:[A-Za-z]+)`)

func (s *Store) explainAnswer(api smithy.APIError, c call) *failure.Error {
	cause := Answer(api)
	switch api.ErrorCode() {
	case "AccessDeniedException":
		return s.denied(api, c)
	case "ParameterNotFound", "InvalidResourceId": // the second is how tagging says it
		return s.notFound(c.name)
	case "ParameterAlreadyExists":
		return refused(fmt.Errorf("%w: %s in %s", ErrExists, c.name, s.region), "choose another name, or set --overwrite")
	case "ParameterMaxVersionLimitExceeded":
		return refused(cause, fmt.Sprintf("take the label off that version, or move it to a newer one: aws ssm unlabel-parameter-version --name %s --parameter-version N --labels LABEL", c.name.plain()))
	case "TooManyUpdates":
		return failure.New(keyfile.ClassThrottled, cause, "another program is changing the parameter at this moment: read it, then run this again")
	case "ParameterLimitExceeded":
		return refused(cause, fmt.Sprintf("delete parameters in %s that are not used, or request a higher quota from AWS", s.region))
	case "HierarchyTypeMismatch", "HierarchyTypeMismatchException":
		return refused(cause, "the parameter is of another type: choose another name")
	case "ParameterPatternMismatchException":
		return refused(fmt.Errorf("the value does not match the AllowedPattern of %s: %w", c.name, cause), "store the parameter again with another --allowed-pattern, or without")
	case "InvalidKeyId":
		return failure.New(keyfile.ClassKMS, cause, fmt.Sprintf("name a symmetric KMS key of %s that is enabled, by ID, ARN or alias/NAME", s.region))
	case "ValidationException":
		return refused(fmt.Errorf("SSM in %s does not take %s: %w", s.region, c.name, cause), "correct what it names")
	}
	switch {
	case throttled(api):
		return failure.New(keyfile.ClassThrottled, cause, "run this again in a minute")
	case serviceFailed(api):
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s failed: %w", s.region, cause),
			"run this again; see the AWS Health Dashboard if it lasts")
	}
	return nil
}

// denied separates IAM's refusal from KMS's, which SSM passes on under the same name.
func (s *Store) denied(api smithy.APIError, c call) *failure.Error {
	cause, message := Answer(api), api.ErrorMessage()
	arn := c.name.ARN(s.region, accountOf(message))
	if strings.Contains(message, "reserved parameter name") {
		return refused(cause, "choose a name that does not begin with aws or ssm")
	}
	if m := deniedAction().FindStringSubmatch(message); m != nil {
		return failure.New(keyfile.ClassAccessDenied, cause, fmt.Sprintf("allow %s to the caller, on %s", m[1], arn))
	}
	if c.kms == "" {
		return failure.New(keyfile.ClassAccessDenied, cause, "allow it to the caller, on "+arn)
	}
	key := "the KMS key of the parameter"
	if c.key != "" {
		key = "the KMS key " + c.key
	}
	return failure.New(keyfile.ClassKMS, cause, fmt.Sprintf(
		"allow %s to the caller, on %s, with kms:EncryptionContext:PARAMETER_ARN = %s", c.kms, key, arn))
}

func (s *Store) notFound(n Name) *failure.Error {
	return failure.New(keyfile.ClassNotFound, fmt.Errorf("%w %s in %s ", ErrNotFound, n, s.region),
		"correct its name, or the Region in AWS_REGION")
}

// refused is for a call that a retry cannot help.
func refused(err error, advice string) *failure.Error {
	return failure.New(keyfile.ClassOther, err, advice)
}
