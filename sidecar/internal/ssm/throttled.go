package ssm

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// DisableThrottleRetry makes a throttled call fail at once. The SDK would send it twice more within seconds. That suits a
// command that fetches once; a loop with a backoff of its own would only be throttled three times as much. The SDK
// retries everything else as it is set to.
func (r *Reader) DisableThrottleRetry() {
	r.options = append(r.options, func(o *ssm.Options) {
		if sdk, ok := o.Retryer.(aws.RetryerV2); ok {
			o.Retryer = exceptThrottled{sdk}
		}
	})
}

// exceptThrottled is the SDK's retryer, but for throttled calls.
type exceptThrottled struct{ aws.RetryerV2 }

func (r exceptThrottled) IsErrorRetryable(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok && throttled(api) {
		return false
	}
	return r.RetryerV2.IsErrorRetryable(err)
}
