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

// SSM is a key in one parameter and its passphrase in another, given, or absent.
type SSM struct {
	client     *ssm.Client
	region     string
	key        Name
	passphrase *Name
	given      secret.Value
}

// NewSSM makes the source. The passphrase's name may be "", and then given is the passphrase. AWS's
// own settings come from where every AWS program takes them; no call is made yet.
func NewSSM(ctx context.Context, key, passphrase string, given secret.Value) (*SSM, error) {
	s := &SSM{given: given}
	var err error
	if s.key, err = ParseName(key); err != nil {
		return nil, err
	}
	if passphrase != "" {
		name, err := ParseName(passphrase)
		if err != nil {
			return nil, err
		}
		s.passphrase = &name
	}
	if s.client, s.region, err = Connect(ctx, s.names()...); err != nil {
		return nil, err
	}
	return s, nil
}

// Fetch gives the material if it differs from the known revision, and nil if it does not. Key and
// passphrase come from one call. While nothing changes that call does not decrypt.
//
// Its errors are *failure.Error.
func (s *SSM) Fetch(ctx context.Context, known Revision) (*Material, error) {
	if known != (Revision{}) && !s.decryptsAlways() {
		sealed, err := s.get(ctx, false)
		if err != nil || sealed.Revision == known {
			return nil, err
		}
	}
	material, err := s.get(ctx, true)
	if err != nil {
		return nil, err
	}
	if material.Revision == known {
		material.Clear()
		return nil, nil
	}
	return material, nil
}

// decryptsAlways: a reference to Secrets Manager cannot be looked at without its value.
func (s *SSM) decryptsAlways() bool {
	return slices.ContainsFunc(s.names(), Name.SecretsManager)
}

func (s *SSM) names() []Name {
	if s.passphrase == nil {
		return []Name{s.key}
	}
	return []Name{s.key, *s.passphrase}
}

func (s *SSM) get(ctx context.Context, decrypt bool) (*Material, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	var asked []string
	for _, n := range s.names() {
		asked = append(asked, n.asked)
	}
	out, err := s.client.GetParameters(ctx, &ssm.GetParametersInput{Names: asked, WithDecryption: &decrypt})
	if err != nil {
		return nil, s.explain(err)
	}
	if err := s.missing(out.Parameters); err != nil {
		return nil, err
	}
	return s.material(out.Parameters), nil
}

// missing is an error that names each parameter without an answer.
func (s *SSM) missing(answers []types.Parameter) error {
	var missing []string
	do := "create it there, or correct --key-parameter or --passphrase-parameter"
	for _, n := range s.names() {
		if p, ok := n.find(answers); ok && p.Value != nil {
			continue
		}
		missing = append(missing, "no "+n.what())
		if !n.SecretsManager() {
			do = "create it there as a SecureString, or correct --key-parameter or --passphrase-parameter"
		}
	}
	if missing == nil {
		return nil
	}
	return failure.New(keyfile.ClassNotFound,
		fmt.Errorf("%s in %s", and(missing), s.region), do)
}

func (s *SSM) material(answers []types.Parameter) *Material {
	key, _ := s.key.find(answers)
	m := &Material{
		Text:       secret.New([]byte(aws.ToString(key.Value))),
		Passphrase: s.given.Clone(),
		Revision:   Revision{key: stampOf(key)},
		Version:    stampOf(key).version,
	}
	if s.passphrase != nil {
		p, _ := s.passphrase.find(answers)
		m.Passphrase = secret.New([]byte(aws.ToString(p.Value)))
		m.Revision.passphrase = stampOf(p)
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
