package ssm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Parameters are where a key is stored. Its passphrase is in another parameter, given as a value, or absent.
type Parameters struct {
	Key        string
	Passphrase string // "" for none
	Given      secret.Value
}

// A Key is the handle by which a [Reader] knows one key. It is for one goroutine at a time.
type Key struct {
	name       Name
	passphrase *Name
	given      secret.Value

	source  Source
	changed bool          // there is newer material, which was not fetched yet
	apart   map[bool]bool // AWS refused the last call, which decrypted or did not: the key gets calls of its own
}

// NewKey checks the names and makes the handle. It makes no call.
func NewKey(p Parameters) (*Key, error) {
	name, err := ParseName(p.Key)
	if err != nil {
		return nil, err
	}
	k := &Key{name: name, given: p.Given, apart: map[bool]bool{}}
	if p.Passphrase == "" {
		return k, nil
	}
	passphrase, err := ParseName(p.Passphrase)
	if err != nil {
		return nil, err
	}
	k.passphrase = &passphrase
	return k, nil
}

// Source is where the key comes from, as far as it is known: AWS's answers complete it.
func (k *Key) Source() Source { return k.source }

func (k *Key) names() []Name {
	if k.passphrase == nil {
		return []Name{k.name}
	}
	return []Name{k.name, *k.passphrase}
}

// namesOf gives the names of all keys, each once.
func namesOf(keys []*Key) []Name {
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

// decryptsAlways: SSM answers a secret of Secrets Manager only with its value.
func (k *Key) decryptsAlways() bool {
	return slices.ContainsFunc(k.names(), Name.SecretsManager)
}

// missing is an error that names each of the key's parameters without an answer.
func (k *Key) missing(answers []types.Parameter, region string) error {
	var missing []string
	elsewhere := ""
	advice := "create it there, or correct --key-parameter or --passphrase-parameter"
	for _, n := range k.names() {
		if p, ok := n.find(answers, region); ok && p.Value != nil {
			continue
		}
		missing = append(missing, "no "+n.what())
		if !n.SecretsManager() {
			advice = "create it there as a SecureString, or correct --key-parameter or --passphrase-parameter"
		}
		if whole := n.mayLackSuffix(); whole != "" {
			advice += "; or write " + secretsManagerPrefix + whole + " if that is the secret's whole name, since an ARN ends in six characters of AWS"
		}
		if n.region != "" && n.region != region {
			elsewhere = n.region
		}
	}
	if missing == nil {
		return nil
	}
	if elsewhere != "" {
		advice = "set AWS_REGION=" + elsewhere + ": SSM reads parameters of its own Region only"
	}
	return failure.New(keyfile.ClassNotFound, fmt.Errorf("%s in %s", strings.Join(missing, " and "), region), advice)
}

// revision of a key that is not missing.
func (k *Key) revision(answers []types.Parameter, region string) Revision {
	var r Revision
	p, _ := k.name.find(answers, region)
	r.key = stampOf(p)
	if k.passphrase != nil {
		p, _ := k.passphrase.find(answers, region)
		r.passphrase = stampOf(p)
	}
	return r
}

func (k *Key) material(answers []types.Parameter, region string) *Material {
	p, _ := k.name.find(answers, region)
	m := &Material{
		Text:       secret.New([]byte(aws.ToString(p.Value))),
		Passphrase: k.given.Clone(),
		Revision:   k.revision(answers, region),
		Version:    stampOf(p).version,
		Stored:     stampOf(p).modified,
	}
	if k.passphrase != nil {
		p, _ := k.passphrase.find(answers, region)
		m.Passphrase = secret.New([]byte(aws.ToString(p.Value)))
	}
	return m
}
