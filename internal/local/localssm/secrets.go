package localssm

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// secretPrefix is the path under which SSM reads Secrets Manager.
const secretPrefix = "/aws/reference/secretsmanager/"

// secret keeps the versions that have a stage, as Secrets Manager does.
type secret struct {
	arn      string
	versions []*secretVersion // AWSCURRENT first
}

type secretVersion struct {
	id      string
	value   string
	stage   string
	created time.Time
}

// PutSecret stores a secret's next version in Secrets Manager, to be read as
// /aws/reference/secretsmanager/ID. The version before becomes AWSPREVIOUS.
func (s *Server) PutSecret(id, value string) (versionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.secrets[id]
	if held == nil {
		held = &secret{arn: "arn:aws:secretsmanager:" + s.region + ":" + s.account + ":secret:" + id + "-" + newID()[:6]}
		s.secrets[id] = held
	}
	v := &secretVersion{id: newID(), value: value, stage: "AWSCURRENT", created: s.now()}
	if len(held.versions) > 0 {
		held.versions[0].stage = "AWSPREVIOUS"
	}
	held.versions = append([]*secretVersion{v}, held.versions[:min(1, len(held.versions))]...)
	return v.id
}

func (c *secret) selected(selector string) *secretVersion {
	i := slices.IndexFunc(c.versions, func(v *secretVersion) bool {
		return v.id == selector || v.stage == or(selector, "AWSCURRENT")
	})
	if i < 0 {
		return nil
	}
	return c.versions[i]
}

// readSecret answers for a reference. Version 0 is AWS's: the real one is in SourceResult.
func (s *Server) readSecret(r reference, withDecryption bool) (*parameterOutput, *Fault) {
	if !withDecryption {
		return nil, invalid("WithDecryption flag must be True for retrieving a Secret Manager secret.")
	}
	id := strings.TrimPrefix(r.name, secretPrefix)
	held := s.secrets[id]
	if held == nil {
		return nil, noSecret(r)
	}
	v := held.selected(r.selector)
	if v == nil {
		return nil, noSecret(r)
	}
	if fault := s.secretReadable(r.name); fault != nil {
		return nil, fault
	}
	s.decrypts++
	return &parameterOutput{
		ARN:              held.arn,
		DataType:         "text",
		LastModifiedDate: epoch(v.created),
		Name:             r.name,
		Selector:         selectorOutput(r.selector),
		SourceResult:     sourceResult(id, held, v),
		Type:             secureString,
		Value:            v.value,
	}, nil
}

// sourceResult is the answer of Secrets Manager's GetSecretValue, in the spelling that SSM gives it.
func sourceResult(id string, held *secret, v *secretVersion) string {
	out, err := json.Marshal(struct {
		ARN           string   `json:"ARN"`
		Name          string   `json:"name"`
		VersionID     string   `json:"versionId"`
		SecretString  string   `json:"secretString"`
		VersionStages []string `json:"versionStages"`
		CreatedDate   epoch    `json:"createdDate"`
	}{held.arn, id, v.id, v.value, []string{v.stage}, epoch(v.created)})
	if err != nil {
		panic(err) // strings and a time
	}
	return string(out)
}

func noSecret(r reference) *Fault {
	return &Fault{Code: "ParameterNotFound", Message: "An error occurred (ParameterNotFound) when referencing Secrets Manager: Secret " + r.name + " not found."}
}
