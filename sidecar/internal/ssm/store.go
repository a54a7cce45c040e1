package ssm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// The most bytes that a value can have: in the tier that costs nothing, and in the other one.
const (
	standardLimit = 4096
	advancedLimit = 8192
)

// Errors of a Store wrap these.
var (
	ErrExists   = errors.New("the parameter exists already")
	ErrNotFound = errors.New("no such parameter")
)

// A Store reads and writes the Parameter Store of one account in one Region. It refuses an ARN of another one. Its errors
// are *failure.Error.
type Store struct {
	*client

	mu    sync.Mutex
	known string // the account; "" until it is needed
}

// OpenStore makes the Store for these names. The Region comes from the AWS settings or, if they have none, from the
// first ARN. An ARN of another Region is an error. It makes no call yet.
func OpenStore(ctx context.Context, o Options, names ...string) (*Store, error) {
	var parsed []Name
	for _, name := range names {
		n, err := ParseName(name)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, n)
	}
	c, err := connect(ctx, o, parsed...)
	if err != nil {
		return nil, err
	}
	s := &Store{client: c}
	for _, n := range parsed {
		if err := s.checkRegion(n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// A Tag is one of AWS's tags.
type Tag struct{ Key, Value string }

// A Version is one value of a parameter, with its metadata.
type Version struct {
	Name        string // as the caller wrote it
	Number      int64
	Value       secret.Value // not set unless it was requested decrypted
	Type        types.ParameterType
	KMSKey      string
	Tier        types.ParameterTier
	Description string
	Labels      []string
	Pattern     string   // that values have to match; "" for any
	Policies    []string // as JSON, one each; with their absolute times
	Modified    time.Time
	Read        time.Time // by AWS's clock, if History or Latest gave it; this machine's may be wrong
}

// Secret reports whether the value is stored encrypted.
func (v Version) Secret() bool { return v.Type == types.ParameterTypeSecureString }

// Next is a Write of the version after v, with its type, KMS key, tier, description, pattern and policies: AWS would take
// its own defaults for the first three, another KMS key among them.
func (v Version) Next(value secret.Value) Write {
	return Write{
		Name: v.Name, Value: value, Type: v.Type, KMSKey: v.KMSKey, Tier: v.Tier, Description: v.Description,
		Pattern: v.Pattern, Policies: v.Policies, Overwrite: true,
	}
}

// Expires is when AWS deletes the parameter, by its policy of the type Expiration; the zero time if it has none.
func (v Version) Expires() time.Time {
	for _, text := range v.Policies {
		var policy struct {
			Type       string
			Attributes struct{ Timestamp time.Time }
		}
		if json.Unmarshal([]byte(text), &policy) == nil && policy.Type == "Expiration" {
			return policy.Attributes.Timestamp
		}
	}
	return time.Time{}
}

// A Write is what Put stores.
type Write struct {
	Name        string
	Value       secret.Value
	Type        types.ParameterType // SecureString if empty
	KMSKey      string              // ID, ARN or alias; the account's alias/aws/ssm if empty
	Tier        types.ParameterTier // at least this one; a large value needs the Advanced tier
	Description string
	Pattern     string
	Policies    []string
	Tags        []Tag // not with Overwrite: AWS takes them at the creation only
	Overwrite   bool
	Once        bool // never send it again unless AWS has answered that it refused it
}

func (w Write) kind() types.ParameterType {
	if w.Type == "" {
		return types.ParameterTypeSecureString
	}
	return w.Type
}

// tier is Standard as long as that is enough. Here the size alone decides. Intelligent-Tiering would also take the
// Advanced tier, and its price, for reasons that are not in the request.
func (w Write) tier() types.ParameterTier {
	if w.Tier == types.ParameterTierAdvanced || len(w.Value.Bytes()) > standardLimit {
		return types.ParameterTierAdvanced // which can never be left again
	}
	return types.ParameterTierStandard
}

// Put stores a value and returns the number of its version. Without Overwrite the parameter must not exist.
//
// After an error of class network it is not known whether the value was stored.
func (s *Store) Put(ctx context.Context, w Write) (int64, error) {
	t, err := s.target(ctx, w.Name)
	if err != nil {
		return 0, err
	}
	if size := len(w.Value.Bytes()); size > advancedLimit {
		return 0, tooLarge(t.name, size)
	}
	if bytes.Contains(w.Value.Bytes(), []byte("{{")) {
		return 0, nested(t.name)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	in := &ssm.PutParameterInput{
		Name:      &t.plain,
		Value:     aws.String(string(w.Value.Bytes())),
		Type:      w.kind(),
		Tier:      w.tier(),
		Overwrite: &w.Overwrite,
		Tags:      sdkTags(w.Tags),
	}
	if w.KMSKey != "" && w.kind() == types.ParameterTypeSecureString {
		in.KeyId = &w.KMSKey
	}
	if w.Description != "" {
		in.Description = &w.Description
	}
	if w.Pattern != "" {
		in.AllowedPattern = &w.Pattern
	}
	if len(w.Policies) > 0 {
		in.Policies = aws.String("[" + strings.Join(w.Policies, ",") + "]")
	}
	var options []func(*ssm.Options)
	if w.Once {
		options = append(options, sentOnce)
	}
	out, err := s.ssm.PutParameter(ctx, in, options...)
	if err != nil {
		return 0, s.explain(err, call{name: t.name, kms: kmsToWrite(w.tier()), key: w.KMSKey})
	}
	return out.Version, nil
}

func sentOnce(o *ssm.Options) { o.Retryer = onceTaken{o.Retryer} }

// onceTaken does not repeat a request that AWS may have accepted: the answer to a second request says nothing about the
// first, which may take effect after it.
type onceTaken struct{ aws.Retryer }

func (r onceTaken) IsErrorRetryable(err error) bool {
	answer, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && answer.HTTPStatusCode() >= 400 && answer.HTTPStatusCode() < 500 && r.Retryer.IsErrorRetryable(err)
}

// Tag sets tags of a parameter that exists; its other tags stay.
func (s *Store) Tag(ctx context.Context, name string, tags []Tag) error {
	t, err := s.target(ctx, name)
	if err != nil || len(tags) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err = s.ssm.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
		ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: &t.plain, Tags: sdkTags(tags),
	})
	if err != nil {
		return s.explain(err, call{name: t.name})
	}
	return nil
}

// Get gives the latest version with its value, decrypted. KMSKey, Tier, Description and Labels are not set: Latest has them.
func (s *Store) Get(ctx context.Context, name string) (Version, error) {
	t, err := s.target(ctx, name)
	if err != nil {
		return Version{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	asked := &ssm.GetParameterInput{Name: &t.plain, WithDecryption: aws.Bool(true)}
	out, err := s.ssm.GetParameter(withBound(ctx, parametersBound([]Name{t.name})), asked)
	if err != nil {
		return Version{}, s.explain(err, call{name: t.name, kms: "kms:Decrypt"})
	}
	return Version{
		Name: name, Number: out.Parameter.Version, Value: secret.New([]byte(aws.ToString(out.Parameter.Value))),
		Type: cleanType(out.Parameter.Type), Modified: aws.ToTime(out.Parameter.LastModifiedDate).UTC(),
	}, nil
}

// Latest gives the latest version with its metadata, but without its value.
func (s *Store) Latest(ctx context.Context, name string) (Version, error) {
	all, err := s.History(ctx, name, false)
	if err != nil {
		return Version{}, err
	}
	return all[len(all)-1], nil
}

// maxVersions is more than the 100 that AWS keeps: others may write between two pages.
const maxVersions = 150

// History gives every version that AWS still has, oldest first. Decrypting them costs a KMS request each.
func (s *Store) History(ctx context.Context, name string, decrypt bool) ([]Version, error) {
	t, err := s.target(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var all []Version
	pages := ssm.NewGetParameterHistoryPaginator(s.ssm, &ssm.GetParameterHistoryInput{Name: &t.plain, WithDecryption: &decrypt})
	for pages.HasMorePages() {
		page, err := pages.NextPage(withBound(ctx, historyBound))
		if err != nil {
			return nil, s.explain(err, call{name: t.name, kms: "kms:Decrypt"})
		}
		now, ok := awsmiddleware.GetServerTime(page.ResultMetadata)
		if !ok {
			now = time.Now()
		}
		for _, p := range page.Parameters {
			v := version(name, p, decrypt)
			v.Read = now
			all = append(all, v)
		}
		if len(all) > maxVersions {
			return nil, tooManyVersions(t.name)
		}
	}
	if len(all) == 0 {
		return nil, s.notFound(t.name)
	}
	slices.SortFunc(all, func(a, b Version) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

func version(name string, p types.ParameterHistory, decrypted bool) Version {
	v := Version{
		Name: name, Number: p.Version, Type: cleanType(p.Type), KMSKey: aws.ToString(p.KeyId), Tier: p.Tier,
		Description: aws.ToString(p.Description), Pattern: aws.ToString(p.AllowedPattern), Modified: aws.ToTime(p.LastModifiedDate).UTC(),
	}
	for _, policy := range p.Policies {
		v.Policies = append(v.Policies, aws.ToString(policy.PolicyText))
	}
	for _, label := range p.Labels {
		v.Labels = append(v.Labels, failure.Text(label))
	}
	if decrypted {
		v.Value = secret.New([]byte(aws.ToString(p.Value)))
	}
	return v
}

// cleanType is safe in a message, whatever AWS has sent.
func cleanType(t types.ParameterType) types.ParameterType {
	return types.ParameterType(failure.Text(string(t)))
}

// Delete removes a parameter with all its versions. The request is not sent again unless AWS has answered that it refused
// it: a second one would delete what another process has created since. After an error of class network it is not known
// whether the parameter was deleted.
func (s *Store) Delete(ctx context.Context, name string) error {
	t, err := s.target(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := s.ssm.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: &t.plain}, sentOnce); err != nil {
		return s.explain(err, call{name: t.name})
	}
	return nil
}

func sdkTags(tags []Tag) []types.Tag {
	var all []types.Tag
	for _, t := range tags {
		all = append(all, types.Tag{Key: &t.Key, Value: &t.Value})
	}
	return all
}

func kmsToWrite(tier types.ParameterTier) string {
	if tier == types.ParameterTierAdvanced {
		return "kms:GenerateDataKey"
	}
	return "kms:Encrypt"
}

func tooLarge(n Name, size int) error {
	return refused(fmt.Errorf("the value for %s has %d bytes, and a parameter holds %d at most", n, size, advancedLimit),
		"store a key of 2048, 3072 or 4096 bits")
}

// nested is the error about a value that AWS would refuse in words that may repeat it.
func nested(n Name) error {
	return refused(fmt.Errorf("the value for %s has {{ in it, by which Parameter Store means another parameter", n),
		"take a value without")
}

func tooManyVersions(n Name) error {
	return failure.New(keyfile.ClassNetwork, fmt.Errorf("SSM gives more than %d versions of %s, and AWS keeps 100", maxVersions, n),
		"check what AWS_ENDPOINT_URL_SSM names")
}
