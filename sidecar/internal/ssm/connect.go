package ssm

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go/logging"
)

// connect gives the client for SSM and the Region that it calls, the first that an ARN names if nothing
// else says one. AWS's own settings come from where every AWS program takes them; no call is made yet.
func connect(ctx context.Context, names ...Name) (client *ssm.Client, region string, err error) {
	// The SDK would print lines of its own among ours; what matters of them comes back as an error.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}), withTimeouts)
	if err != nil {
		return nil, "", fmt.Errorf("AWS settings: %w; check AWS_PROFILE, AWS_CONFIG_FILE and the other AWS_ variables", Shown(err))
	}
	for _, n := range names {
		cfg.Region = cmp.Or(cfg.Region, n.region)
	}
	if cfg.Region == "" {
		return nil, "", errors.New("no AWS region: set AWS_REGION, or name the parameter by its ARN")
	}
	for _, n := range names {
		if n.SecretsManager() && n.region != "" && n.region != cfg.Region {
			return nil, "", fmt.Errorf("the secret is in %s, and SSM in %s reads secrets of its own Region only: set AWS_REGION=%[1]s", n.region, cfg.Region)
		}
	}
	client = ssm.NewFromConfig(cfg, func(o *ssm.Options) { o.HTTPClient = transport{o.HTTPClient} })
	return client, cfg.Region, nil
}

// withTimeouts bounds what the SDK asks on the way to credentials. All looks wait for the same question, which has no
// context of theirs: one that is never answered would be the last.
func withTimeouts(o *config.LoadOptions) error {
	o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(CallTimeout)
	o.EndpointCredentialOptions = func(e *endpointcreds.Options) {
		e.HTTPClient = awshttp.NewBuildableClient().WithTimeout(CallTimeout / 2) // which leaves time for a second try
	}
	return nil
}
