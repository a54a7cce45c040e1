package ssm

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// API is the one call that a Reader makes.
type API interface {
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
}

// A Reader reads keys from Parameter Store. Its Fetch is for one goroutine.
type Reader struct {
	endpoint
	api     API
	options []func(*ssm.Options) // of each call
	account func(context.Context) string
}

// NewReader makes the reader of these keys. AWS's own settings come from where every AWS program takes them; it makes no call yet.
func NewReader(ctx context.Context, o Options, keys ...*Key) (*Reader, error) {
	c, err := connect(ctx, o, namesOf(keys)...)
	if err != nil {
		return nil, err
	}
	r := NewReaderOf(c.ssm, c.region, keys...)
	r.endpoint, r.account = c.endpoint, c.account
	return r, nil
}

// NewReaderOf makes the reader of an API that is there already.
func NewReaderOf(api API, region string, keys ...*Key) *Reader {
	for _, k := range keys {
		k.source = k.name.source(region)
	}
	return &Reader{
		endpoint: endpoint{region: region, timeout: Options{}.callTimeout()},
		api:      api,
		account:  func(context.Context) string { return "" },
	}
}

// get is one call, for all names of these keys.
func (r *Reader) get(ctx context.Context, keys []*Key, decrypt bool) ([]types.Parameter, error) {
	call, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	names := namesOf(keys)
	asked := make([]string, len(names))
	for i, n := range names {
		asked[i] = n.asked
	}
	in := &ssm.GetParametersInput{Names: asked, WithDecryption: &decrypt}
	out, err := r.api.GetParameters(withBound(call, parametersBound(names)), in, r.options...)
	if err == nil {
		return out.Parameters, nil
	}
	explained := r.explain(err, func(api smithy.APIError) *failure.Error { return r.explainRead(api, names) })
	if refuses(err, failure.Class(explained)) {
		r.identifyRefused(ctx, keys, err)
		if decrypt && failure.Class(explained) == keyfile.ClassKMS {
			r.identifySealed(ctx, keys)
		}
		return nil, refusal{explained}
	}
	if failure.Class(explained) != keyfile.ClassCredentials {
		for _, k := range keys { // the credentials may say it without SSM
			r.identifyAccount(ctx, k)
		}
	}
	return nil, explained
}

// identifySealed reads the same parameters without decryption, to learn their sources: a refusal of KMS does not name
// the parameter.
func (r *Reader) identifySealed(ctx context.Context, keys []*Key) {
	if !slices.ContainsFunc(keys, func(k *Key) bool { return !k.source.Known() && !k.decryptsAlways() }) {
		return
	}
	answers, err := r.get(ctx, keys, false)
	if err != nil {
		return
	}
	for _, k := range keys {
		r.identify(ctx, k, answers)
	}
}

// identify completes the source of a key with what AWS answered.
func (r *Reader) identify(ctx context.Context, k *Key, answers []types.Parameter) {
	if p, ok := k.name.find(answers, r.region); ok {
		k.source = k.source.answered(aws.ToString(p.ARN))
	}
	r.identifyAccount(ctx, k)
}

// identifyRefused completes the sources of keys that AWS refuses: a refusal of IAM has the full name.
func (r *Reader) identifyRefused(ctx context.Context, keys []*Key, err error) {
	for _, k := range keys {
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			k.source = k.source.answered(resourceOf(api.ErrorMessage()))
		}
		r.identifyAccount(ctx, k)
	}
}

// identifyAccount takes the account of the credentials, if AWS has said it. The source of a secret lacks more than
// that.
func (r *Reader) identifyAccount(ctx context.Context, k *Key) {
	if !k.source.Known() && k.source.service == parameterStore {
		k.source.account = r.account(ctx)
	}
}

// stampOf takes a parameter's own version and time, and for a reference to Secrets Manager, whose
// Version is always 0, the secret's version id.
func stampOf(p types.Parameter) stamp {
	version := strconv.FormatInt(p.Version, 10)
	var source struct {
		VersionID string `json:"VersionId"`
	}
	if p.SourceResult != nil && json.Unmarshal([]byte(*p.SourceResult), &source) == nil && source.VersionID != "" {
		version = failure.Text(source.VersionID)
	}
	return stamp{version: version, modified: aws.ToTime(p.LastModifiedDate).UTC()}
}
