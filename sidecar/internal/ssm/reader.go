package ssm

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// CallTimeout bounds one call to SSM, the SDK's retries included. It is a variable for tests only.
var CallTimeout = 20 * time.Second

// API is the one call that a Reader makes.
type API interface {
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
}

// A Reader reads keys from Parameter Store. Its Fetch is for one goroutine.
type Reader struct {
	api     API
	options []func(*ssm.Options) // of each call
	region  string
	timeout time.Duration // of each call
}

// NewReader makes the reader of these keys. AWS's own settings come from where every AWS program takes them; it makes no call yet.
func NewReader(ctx context.Context, keys ...*Key) (*Reader, error) {
	client, region, err := connect(ctx, namesOf(keys)...)
	if err != nil {
		return nil, err
	}
	return NewReaderOf(client, region, keys...), nil
}

// NewReaderOf makes the reader of an API that is there already.
func NewReaderOf(api API, region string, keys ...*Key) *Reader {
	for _, k := range keys {
		k.source = k.name.source(region)
	}
	return &Reader{api: api, region: region, timeout: CallTimeout}
}

// get is one call, for all names of these keys.
func (r *Reader) get(ctx context.Context, keys []*Key, decrypt bool) ([]types.Parameter, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	names := namesOf(keys)
	asked := make([]string, len(names))
	for i, n := range names {
		asked[i] = n.asked
	}
	out, err := r.api.GetParameters(ctx, &ssm.GetParametersInput{Names: asked, WithDecryption: &decrypt}, r.options...)
	if err != nil {
		explained := r.explain(err, names)
		if refuses(err, failure.Class(explained)) {
			return nil, refusal{explained}
		}
		return nil, explained
	}
	return out.Parameters, nil
}

// stampOf takes a parameter's own version and time, and for a reference to Secrets Manager, whose
// Version is always 0, the secret's version id.
func stampOf(p types.Parameter) stamp {
	version := strconv.FormatInt(p.Version, 10)
	var source struct{ VersionId string }
	if p.SourceResult != nil && json.Unmarshal([]byte(*p.SourceResult), &source) == nil && source.VersionId != "" {
		version = source.VersionId
	}
	return stamp{version: version, modified: aws.ToTime(p.LastModifiedDate).UTC()}
}
