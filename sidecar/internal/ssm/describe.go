package ssm

import (
	"context"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// A Description is SSM's metadata of a parameter.
type Description struct {
	Type     string // such as SecureString
	Version  string
	Modified time.Time
}

// Describe describes the key's own parameter, without decrypting it if that is possible. Its errors are
// those of Fetch.
func (r *Reader) Describe(ctx context.Context, k *Key) (Description, error) {
	alone := &Key{name: k.name}
	answers, err := r.get(ctx, []*Key{alone}, alone.name.SecretsManager())
	if err == nil {
		err = alone.missing(answers, r.region)
	}
	if err != nil {
		return Description{}, err
	}
	p, _ := k.name.find(answers, r.region)
	at := stampOf(p)
	return Description{Type: failure.Text(string(p.Type)), Version: at.version, Modified: at.modified}, nil
}
