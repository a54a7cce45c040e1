package ssm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/snowkey/snowkey/sidecar/internal/logwriter"
)

// Options configure a [Reader] or a [Store].
type Options struct {
	CallTimeout time.Duration // bounds one call, the SDK's retries included; 20 seconds if 0
	Region      string        // if AWS's own settings name none
}

func (o Options) callTimeout() time.Duration { return cmp.Or(o.CallTimeout, 20*time.Second) }

// A client calls AWS in one Region with one set of credentials.
type client struct {
	endpoint
	ssm *ssm.Client
	sts *sts.Client
}

// An endpoint describes, for errors, the SSM that was called.
type endpoint struct {
	region       string
	provider     Provider
	endpointFrom string        // the setting that names the endpoint, "" for AWS's own
	timeout      time.Duration // of each call
}

// connect makes the client, for the Region of the AWS settings or, if they have none, the first one in an ARN. It
// makes no call yet.
func connect(ctx context.Context, o Options, names ...Name) (*client, error) {
	for _, n := range names {
		o.Region = cmp.Or(o.Region, n.region)
	}
	cfg, err := LoadConfig(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%w; check AWS_PROFILE, AWS_CONFIG_FILE and the other AWS_ variables", err)
	}
	if err := cmp.Or(CheckRegion(cfg), CheckEndpoints(cfg)); err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("no AWS region: set AWS_REGION, or name the parameter by its ARN")
	}
	for _, n := range names {
		if n.SecretsManager() && n.region != "" && n.region != cfg.Region {
			return nil, fmt.Errorf("the secret is in %s, and SSM in %s reads secrets of its own Region only: set AWS_REGION=%[1]s", n.region, cfg.Region)
		}
	}
	c := &client{
		endpoint: endpoint{region: cfg.Region, provider: ProviderOf(cfg), timeout: o.callTimeout()},
		ssm:      ssm.NewFromConfig(cfg),
		sts:      sts.NewFromConfig(cfg),
	}
	if base := c.ssm.Options().BaseEndpoint; base != nil {
		c.endpointFrom = cmp.Or(settingOf(*base, "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"), "the AWS configuration file")
	}
	return c, nil
}

// LoadConfig reads AWS's own settings from where every AWS program takes them. Every client made from the result has
// bounds for what it reads, and follows no redirect. An error names settings, never their values.
func LoadConfig(ctx context.Context, o Options) (aws.Config, error) {
	var exchange tokenExchange
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithDefaultRegion(o.Region), // here, since credentials may come from STS in that Region
		config.WithLogger(logging.Nop{}),   // its lines would be among ours; what matters comes back as an error
		config.WithAPIOptions([]func(*middleware.Stack) error{observeCalls}),
		// The SDK gets credentials without the context of a call, and all calls wait for them.
		config.WithHTTPClient(httpClient(o.callTimeout())),
		config.WithEndpointCredentialOptions(func(e *endpointcreds.Options) {
			e.HTTPClient = httpClient(o.callTimeout() / 2) // leaves time for a second try
			if path := os.Getenv(authorizationFile); path != "" {
				e.AuthorizationTokenProvider = tokenFile{authorizationFile, path}
			}
		}),
		config.WithWebIdentityRoleCredentialOptions(func(w *stscreds.WebIdentityRoleOptions) {
			w.Client = &exchange
			if path, ok := w.TokenRetriever.(stscreds.IdentityTokenFile); ok {
				w.TokenRetriever = tokenFile{settingOfToken(string(path)), string(path)}
			}
		}),
	)
	if err != nil {
		return aws.Config{}, settingsError(err)
	}
	exchange.connect(cfg, o.callTimeout()/2)
	cfg.HTTPClient = withoutWriteTo{cfg.HTTPClient} // only now, since the SDK adds AWS_CA_BUNDLE to its own type only
	silenceCredentialProcess(&cfg)
	renewRefused(&cfg)
	return cfg, nil
}

// silenceCredentialProcess keeps what a credential_process prints to stderr out of the log, where it may be a secret.
// On a terminal a person may have to read it, such as a question for a code.
//
// It does not reach a process whose credentials are only used to assume a role.
func silenceCredentialProcess(cfg *aws.Config) {
	cache, ok := cfg.Credentials.(*aws.CredentialsCache)
	direct := []aws.CredentialSource{aws.CredentialSourceProfileProcess, aws.CredentialSourceProcess}
	if !ok || !slices.Equal(cache.ProviderSources(), direct) || logwriter.IsTerminal(os.Stderr) {
		return
	}
	for _, source := range cfg.ConfigSources {
		profile, ok := source.(config.SharedConfig)
		if !ok || profile.CredentialProcess == "" {
			continue
		}
		command := processcreds.DefaultNewCommandBuilder{Args: []string{profile.CredentialProcess}}
		cfg.Credentials = aws.NewCredentialsCache(processcreds.NewProviderCommand(processcreds.NewCommandBuilderFunc(
			func(ctx context.Context) (*exec.Cmd, error) {
				cmd, err := command.NewCommand(ctx)
				if err != nil {
					return nil, err
				}
				cmd.Stderr = nil
				return cmd, nil
			})))
	}
}

// account is the account that the credentials belong to, "" if AWS did not say so when it gave them. An account that a
// user has written, in AWS_ACCOUNT_ID or a file, does not count.
func (c *client) account(ctx context.Context) string {
	provider := c.ssm.Options().Credentials
	if provider == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := provider.Retrieve(ctx)
	if err != nil {
		return ""
	}
	written := found.Source == config.CredentialsSourceName || found.Source == processcreds.ProviderName ||
		strings.HasPrefix(found.Source, "SharedConfigCredentials")
	if written || !accountPattern().MatchString(found.AccountID) {
		return ""
	}
	return found.AccountID
}
