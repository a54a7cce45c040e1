package ssm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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

// What a caller may want to tell from other failures; the errors of a Store wrap them.
var (
	ErrExists   = errors.New("the parameter exists already")
	ErrNotFound = errors.New("no such parameter")
)

// A Store is the Parameter Store of one account in one Region. Its errors are *failure.Error.
type Store struct {
	client *ssm.Client
	region string
}

// OpenStore makes the Store. AWS's own settings come from where every AWS program takes them, the Region if
// need be from the ARN that a parameter is named by; no call is made yet.
func OpenStore(ctx context.Context, name string) (*Store, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	client, region, err := connect(ctx, n)
	if err != nil {
		return nil, err
	}
	return &Store{client, region}, nil
}

// Region is the one that the Store is in.
func (s *Store) Region() string { return s.region }

// A Tag is one of AWS's tags.
type Tag struct{ Key, Value string }

// A Version is one value of a parameter and what is stored beside it.
type Version struct {
	Name        string // plain: neither ARN nor selector
	Number      int64
	Value       secret.Value // not set unless it was asked for decrypted
	Type        types.ParameterType
	KMSKey      string
	Tier        types.ParameterTier
	Description string
	Labels      []string
	Modified    time.Time
	Read        time.Time // by AWS's clock, if History or Latest gave it; this machine's may be wrong
}

// Secret reports whether the value is stored encrypted.
func (v Version) Secret() bool { return v.Type == types.ParameterTypeSecureString }

// Next is a Write of the version after v, with its type, KMS key, tier and description: AWS would take its
// own defaults for the first three, another KMS key among them.
func (v Version) Next(value secret.Value) Write {
	return Write{Name: v.Name, Value: value, Type: v.Type, KMSKey: v.KMSKey, Tier: v.Tier, Description: v.Description, Overwrite: true}
}

// A Write is what Put stores.
type Write struct {
	Name        string
	Value       secret.Value
	Type        types.ParameterType // SecureString if empty
	KMSKey      string              // ID, ARN or alias; the account's alias/aws/ssm if empty
	Tier        types.ParameterTier // at least this one; the value's size can ask for more
	Description string
	Tags        []Tag // not with Overwrite: AWS takes them at the creation only
	Overwrite   bool
	Once        bool // never send it again unless AWS has answered that it did not take it
}

func (w Write) kind() types.ParameterType {
	if w.Type == "" {
		return types.ParameterTypeSecureString
	}
	return w.Type
}

// tier is Standard as long as that is enough. Intelligent-Tiering is not used: it also takes the Advanced
// tier, and its price, for reasons that are not in the request, and what is written here always fits one.
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
	n, plain, err := writable(w.Name)
	if err != nil {
		return 0, err
	}
	if size := len(w.Value.Bytes()); size > advancedLimit {
		return 0, tooLarge(n, size)
	}
	if bytes.Contains(w.Value.Bytes(), []byte("{{")) {
		return 0, nested(n)
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	in := &ssm.PutParameterInput{
		Name:      &plain,
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
	out, err := s.client.PutParameter(ctx, in, func(o *ssm.Options) {
		if w.Once {
			o.Retryer = onceTaken{o.Retryer}
		}
	})
	if err != nil {
		return 0, s.explain(err, call{name: n, kms: kmsToWrite(w.tier()), key: w.KMSKey})
	}
	return out.Version, nil
}

// onceTaken does not try again what may have been taken: the answer to a second request says nothing about the
// first, which may take effect after it.
type onceTaken struct{ aws.Retryer }

func (r onceTaken) IsErrorRetryable(err error) bool {
	answer, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && answer.HTTPStatusCode() >= 400 && answer.HTTPStatusCode() < 500 && r.Retryer.IsErrorRetryable(err)
}

// Tag sets tags of a parameter that exists; its other tags stay.
func (s *Store) Tag(ctx context.Context, name string, tags []Tag) error {
	n, plain, err := writable(name)
	if err != nil || len(tags) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	_, err = s.client.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
		ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: &plain, Tags: sdkTags(tags),
	})
	if err != nil {
		return s.explain(err, call{name: n})
	}
	return nil
}

// Get gives the newest version with its value, decrypted. A parameter of another account, which could be
// read but not written, is an error.
//
// Of the rest it has what a reader is told: not KMSKey, Tier, Description and Labels. Latest has those.
func (s *Store) Get(ctx context.Context, name string) (Version, error) {
	n, plain, err := writable(name)
	if err != nil {
		return Version{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	out, err := s.client.GetParameter(ctx, &ssm.GetParameterInput{Name: &plain, WithDecryption: aws.Bool(true)})
	if err != nil {
		return Version{}, s.explain(err, call{name: n, kms: "kms:Decrypt"})
	}
	p := out.Parameter
	if n.IsARN() && aws.ToString(p.ARN) != n.String() {
		return Version{}, foreign(n)
	}
	return Version{
		Name: plain, Number: p.Version, Value: secret.New([]byte(aws.ToString(p.Value))),
		Type: p.Type, Modified: aws.ToTime(p.LastModifiedDate).UTC(),
	}, nil
}

// Own is nil unless name is the ARN of a parameter that can only be read: one of another account, beside which
// there can be one of the same name in this one.
func (s *Store) Own(ctx context.Context, name string) error {
	n, plain, err := writable(name)
	if err != nil || !n.IsARN() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	out, err := s.client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{plain}})
	if err != nil {
		return s.explain(err, call{name: n})
	}
	for _, p := range out.Parameters {
		if aws.ToString(p.ARN) == n.String() {
			return nil
		}
	}
	return failure.New(keyfile.ClassNotFound, fmt.Errorf("%s is a parameter of another account or Region", n), "run this with credentials of that account, in that Region")
}

// Latest gives the newest version with all that is stored beside its value, but not the value.
func (s *Store) Latest(ctx context.Context, name string) (Version, error) {
	all, err := s.History(ctx, name, false)
	if err != nil {
		return Version{}, err
	}
	return all[len(all)-1], nil
}

// History gives every version that AWS still has, oldest first. Decrypting them costs a KMS request each.
func (s *Store) History(ctx context.Context, name string, decrypt bool) ([]Version, error) {
	n, plain, err := writable(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	var all []Version
	pages := ssm.NewGetParameterHistoryPaginator(s.client, &ssm.GetParameterHistoryInput{Name: &plain, WithDecryption: &decrypt})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.explain(err, call{name: n, kms: "kms:Decrypt"})
		}
		now, ok := awsmiddleware.GetServerTime(page.ResultMetadata)
		if !ok {
			now = time.Now()
		}
		for _, p := range page.Parameters {
			v := version(plain, p, decrypt)
			v.Read = now
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return nil, s.notFound(n)
	}
	slices.SortFunc(all, func(a, b Version) int { return int(a.Number - b.Number) })
	return all, nil
}

func version(plain string, p types.ParameterHistory, decrypted bool) Version {
	v := Version{
		Name: plain, Number: p.Version, Type: p.Type, KMSKey: aws.ToString(p.KeyId), Tier: p.Tier,
		Description: aws.ToString(p.Description), Labels: p.Labels, Modified: aws.ToTime(p.LastModifiedDate).UTC(),
	}
	if decrypted {
		v.Value = secret.New([]byte(aws.ToString(p.Value)))
	}
	return v
}

// Delete removes a parameter with all its versions.
func (s *Store) Delete(ctx context.Context, name string) error {
	n, plain, err := writable(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	if _, err := s.client.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: &plain}); err != nil {
		return s.explain(err, call{name: n})
	}
	return nil
}

// writable gives a name as it was written and as AWS takes it from one who writes.
func writable(name string) (n Name, plain string, err error) {
	if n, err = ParseName(name); err != nil {
		return n, "", err
	}
	plain, err = n.Plain()
	return n, plain, err
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

// nested is for what AWS refuses, in words of its own that might repeat the value.
func nested(n Name) error {
	return refused(fmt.Errorf("the value for %s has {{ in it, by which Parameter Store means another parameter", n),
		"take a value without")
}
