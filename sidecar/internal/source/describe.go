package source

import (
	"context"
	"time"
)

// A Description is what SSM says of a parameter beside its value.
type Description struct {
	Type     string // such as SecureString
	Version  string
	Modified time.Time
}

// Describe looks at the parameter of the first key, without decrypting it if that is possible. Its errors are
// those of Fetch.
func (s *SSM) Describe(ctx context.Context) (Description, error) {
	k := s.keys[0]
	answers, err := s.get(ctx, []stored{{key: k.key}}, k.key.SecretsManager())
	if err == nil {
		err = stored{key: k.key}.missing(answers, s.region)
	}
	if err != nil {
		return Description{}, err
	}
	p, _ := k.key.find(answers)
	at := stampOf(p)
	return Description{Type: string(p.Type), Version: at.version, Modified: at.modified}, nil
}
