package source

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// CallTimeout bounds one call to SSM, the SDK's retries included. It is a variable for tests only.
var CallTimeout = 20 * time.Second

// Parameters are where SSM has one key: in one parameter, and its passphrase in another, given, or absent.
type Parameters struct {
	Key        string
	Passphrase string // "" for none
	Given      secret.Value
}

// API is the one call that is made.
type API interface {
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
}

// SSM is keys in Parameter Store. Its Fetch is for one goroutine.
type SSM struct {
	api     API
	options []func(*ssm.Options) // of each call
	region  string
	keys    []stored
	changed map[int]bool // keys of which newer material was seen and is still to be had
	apart   map[ask]bool // those that AWS refused the last time, and that have calls of their own since
}

// An ask is for one key, with or without decryption: AWS may refuse one and not the other.
type ask struct {
	key     int
	decrypt bool
}

// A stored is one key's Parameters, read.
type stored struct {
	key        Name
	passphrase *Name
	given      secret.Value
}

// NewSSM makes the source. AWS's own settings come from where every AWS program takes them; no call is
// made yet.
func NewSSM(ctx context.Context, keys ...Parameters) (*SSM, error) {
	s, err := newSSM(keys)
	if err != nil {
		return nil, err
	}
	client, region, err := Connect(ctx, namesOf(s.keys)...)
	if err != nil {
		return nil, err
	}
	s.api, s.region = client, region
	return s, nil
}

// NewSSMOf makes the source of an API that there is already.
func NewSSMOf(api API, region string, keys ...Parameters) (*SSM, error) {
	s, err := newSSM(keys)
	if err != nil {
		return nil, err
	}
	s.api, s.region = api, region
	return s, nil
}

func newSSM(keys []Parameters) (*SSM, error) {
	s := &SSM{apart: map[ask]bool{}, changed: map[int]bool{}}
	for _, p := range keys {
		k, err := read(p)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

func read(p Parameters) (k stored, err error) {
	k.given = p.Given
	if k.key, err = ParseName(p.Key); err != nil || p.Passphrase == "" {
		return k, err
	}
	name, err := ParseName(p.Passphrase)
	k.passphrase = &name
	return k, err
}

func (k stored) names() []Name {
	if k.passphrase == nil {
		return []Name{k.key}
	}
	return []Name{k.key, *k.passphrase}
}

// namesOf are the names of all keys, each once.
func namesOf(keys []stored) []Name {
	var all []Name
	for _, k := range keys {
		for _, n := range k.names() {
			if !slices.ContainsFunc(all, func(other Name) bool { return other.asked == n.asked }) {
				all = append(all, n)
			}
		}
	}
	return all
}

// decryptsAlways: a secret of Secrets Manager cannot be looked at without its value.
func (k stored) decryptsAlways() bool {
	return slices.ContainsFunc(k.names(), Name.SecretsManager)
}

// get is one call, for all names of these keys.
func (s *SSM) get(ctx context.Context, keys []stored, decrypt bool) ([]types.Parameter, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	names := namesOf(keys)
	asked := make([]string, len(names))
	for i, n := range names {
		asked[i] = n.asked
	}
	out, err := s.api.GetParameters(ctx, &ssm.GetParametersInput{Names: asked, WithDecryption: &decrypt}, s.options...)
	if err != nil {
		explained := s.explain(err, names)
		if refuses(err, failure.Class(explained)) {
			return nil, refusal{explained}
		}
		return nil, explained
	}
	return out.Parameters, nil
}

// missing is an error that names each of the key's parameters without an answer.
func (k stored) missing(answers []types.Parameter, region string) error {
	var missing []string
	elsewhere := ""
	do := "create it there, or correct --key-parameter or --passphrase-parameter"
	for _, n := range k.names() {
		if p, ok := n.find(answers); ok && p.Value != nil {
			continue
		}
		missing = append(missing, "no "+n.what())
		if !n.SecretsManager() {
			do = "create it there as a SecureString, or correct --key-parameter or --passphrase-parameter"
		}
		if n.region != "" && n.region != region {
			elsewhere = n.region
		}
	}
	if missing == nil {
		return nil
	}
	if elsewhere != "" {
		do = "set AWS_REGION=" + elsewhere + ": SSM reads parameters of its own Region only"
	}
	return failure.New(keyfile.ClassNotFound, fmt.Errorf("%s in %s", and(missing), region), do)
}

// revision of a key that is not missing.
func (k stored) revision(answers []types.Parameter) Revision {
	var r Revision
	p, _ := k.key.find(answers)
	r.key = stampOf(p)
	if k.passphrase != nil {
		p, _ := k.passphrase.find(answers)
		r.passphrase = stampOf(p)
	}
	return r
}

func (k stored) material(answers []types.Parameter) *Material {
	key, _ := k.key.find(answers)
	m := &Material{
		Text:       secret.New([]byte(aws.ToString(key.Value))),
		Passphrase: k.given.Clone(),
		Revision:   k.revision(answers),
		Version:    stampOf(key).version,
		Stored:     stampOf(key).modified,
	}
	if k.passphrase != nil {
		p, _ := k.passphrase.find(answers)
		m.Passphrase = secret.New([]byte(aws.ToString(p.Value)))
	}
	return m
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
