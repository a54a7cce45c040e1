package ssm

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A call is what an error has to be explained from.
type call struct {
	name Name
	kms  string // what SSM does in KMS for it, if anything
	key  string // with which KMS key, if one was named
}

func (s *Store) explain(err error, c call) error {
	return Explain(err, s.region, func(api smithy.APIError) *failure.Error { return s.explainAnswer(api, c) })
}

var deniedAction = regexp.MustCompile(`perform: (ssm:[A-Za-z]+)`)

func (s *Store) explainAnswer(api smithy.APIError, c call) *failure.Error {
	cause := Cause(api)
	switch api.ErrorCode() {
	case "AccessDeniedException":
		return s.denied(api, c)
	case "ParameterNotFound", "InvalidResourceId": // the second is how tagging says it
		return s.notFound(c.name)
	case "ParameterAlreadyExists":
		return refused(fmt.Errorf("%w: %s in %s", ErrExists, c.name, s.region), "choose another name, or say that it is to be overwritten")
	case "ParameterMaxVersionLimitExceeded":
		return refused(cause, fmt.Sprintf("take the label off that version, or move it to a newer one: aws ssm unlabel-parameter-version --name %s --parameter-version N --labels LABEL", c.name))
	case "TooManyUpdates":
		return failure.New(keyfile.ClassThrottled, cause, "somebody else is changing the parameter at this moment: look at what it holds, then run this again")
	case "ParameterLimitExceeded":
		return refused(cause, fmt.Sprintf("delete parameters in %s that nobody needs, or ask AWS for a higher quota", s.region))
	case "HierarchyTypeMismatch", "HierarchyTypeMismatchException":
		return refused(cause, "the parameter is of another type: choose another name")
	case "InvalidKeyId":
		return failure.New(keyfile.ClassKMS, cause, fmt.Sprintf("name a symmetric KMS key of %s that is enabled, by ID, ARN or alias/NAME", s.region))
	case "ValidationException":
		return refused(fmt.Errorf("SSM in %s does not take %s: %w", s.region, c.name, cause), "correct what it names")
	}
	switch {
	case Throttled(api):
		return failure.New(keyfile.ClassThrottled, cause, "run this again in a minute")
	case ServiceFailed(api):
		return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM in %s failed: %w", s.region, cause),
			"run this again; see the AWS Health Dashboard if it lasts")
	}
	return nil
}

// denied tells IAM's refusal from KMS's, which SSM passes on under the same name.
func (s *Store) denied(api smithy.APIError, c call) *failure.Error {
	cause, message := Cause(api), api.ErrorMessage()
	arn := c.name.ARN(s.region, AccountIn(message))
	if strings.Contains(message, "reserved parameter name") {
		return refused(cause, "choose a name that does not begin with aws or ssm")
	}
	if m := deniedAction.FindStringSubmatch(message); m != nil {
		return failure.New(keyfile.ClassAccessDenied, cause, fmt.Sprintf("allow %s to whoever runs this, on %s", m[1], arn))
	}
	if c.kms == "" {
		return failure.New(keyfile.ClassAccessDenied, cause, "allow it to whoever runs this, on "+arn)
	}
	key := "the KMS key of the parameter"
	if c.key != "" {
		key = "the KMS key " + c.key
	}
	return failure.New(keyfile.ClassKMS, cause, fmt.Sprintf(
		"allow %s to whoever runs this, on %s, with kms:EncryptionContext:PARAMETER_ARN = %s", c.kms, key, arn))
}

func (s *Store) notFound(n Name) *failure.Error {
	return failure.New(keyfile.ClassNotFound, fmt.Errorf("%w %s in %s ", ErrNotFound, n, s.region),
		"correct its name, or the Region in AWS_REGION")
}

func foreign(n Name) error {
	return refused(fmt.Errorf("%s is a parameter of another account or Region", n),
		"run this with credentials of that account, in that Region")
}

// refused is for what somebody has to change before another try.
func refused(err error, do string) *failure.Error { return failure.New(keyfile.ClassOther, err, do) }
