package refresh

import (
	"context"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// NewDirectory makes a Directory of a publish.Dir.
func NewDirectory(dir publish.Dir) Directory {
	return &directory{Dir: dir, claim: &publish.Claim{Dir: dir}}
}

type directory struct {
	publish.Dir
	claim *publish.Claim
}

func (d *directory) Lock(ctx context.Context, source string) error {
	if source != d.claim.Source {
		d.claim.Release()
		d.claim = &publish.Claim{Dir: d.Dir, Source: source}
	}
	return d.claim.Hold(ctx)
}

func (d *directory) Previous(same func(source string) bool) (*keyfile.Key, keyfile.Status) {
	status, err := keyfile.ReadStatus(d.Path)
	if err != nil || !same(status.Source) {
		return nil, keyfile.Status{}
	}
	if key := d.Published(); key != nil && key.Fingerprint() == status.Fingerprint {
		return key, status
	}
	return nil, keyfile.Status{}
}

// Release gives the lock up.
func (d *directory) Release() { d.claim.Release() }
