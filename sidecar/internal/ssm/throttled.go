package ssm

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// LeaveThrottling has a throttled call fail at once. The SDK would make it twice more within seconds, which is
// right for who asks once; who asks again and again, and less often after each, would only be throttled three times
// as much. Everything else the SDK tries again as it is set to.
func (r *Reader) LeaveThrottling() {
	r.options = append(r.options, func(o *ssm.Options) {
		if sdk, ok := o.Retryer.(aws.RetryerV2); ok {
			o.Retryer = exceptThrottled{sdk}
		}
	})
}

// exceptThrottled is the SDK's own way to try again, but for one answer.
type exceptThrottled struct{ aws.RetryerV2 }

func (r exceptThrottled) IsErrorRetryable(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok && throttled(api) {
		return false
	}
	return r.RetryerV2.IsErrorRetryable(err)
}
