package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

var awsChecks = group{
	applies: func(f *facts) string {
		if f.of.KeyParameter == "" {
			return "the key is in " + f.of.Source()
		}
		return ""
	},
	checks: []check{
		{"aws region", nil, judgeRegion},
		{"aws credentials", []string{"aws region"}, judgeCredentials},
		{"ssm endpoint", []string{"aws region"}, judgeEndpoint},
		{"aws clock", []string{"ssm endpoint"}, func(f *facts) finding { return judgeClock(f.aws.endpoint, "AWS") }},
		{"key parameter", []string{"aws credentials", "ssm endpoint"}, func(f *facts) finding { return f.aws.key.judgeReadable() }},
		{"key decryption", []string{"key parameter"}, func(f *facts) finding { return f.aws.key.judgeDecryptable() }},
		{"passphrase parameter", []string{"aws credentials", "ssm endpoint"}, func(f *facts) finding { return f.aws.passphrase.judgeReadable() }},
		{"passphrase decryption", []string{"passphrase parameter"}, func(f *facts) finding { return f.aws.passphrase.judgeDecryptable() }},
	},
}

type awsFacts struct {
	settings     error // of the SDK
	region       string
	regionFrom   string
	regionWrong  error
	source       string // of the credentials, by the SDK's name
	provider     ssm.Provider
	credentials  error
	arn, account string
	identity     error
	address      string // of SSM
	addressFrom  string // the setting that names it, "" for AWS's own
	addressWrong error
	endpoint     answer
	key          parameter
	passphrase   parameter
}

// A parameter is the key's or the passphrase's.
type parameter struct {
	name        string // "" when none is
	description ssm.Description
	unreadable  error
	value       secret.Value
	source      ssm.Source
	encrypted   error // why it was not decrypted
}

func (a *awsFacts) clear() {
	a.key.value.Clear()
	a.passphrase.value.Clear()
}

func gatherAWS(ctx context.Context, k config.Key) (a awsFacts) {
	if k.KeyParameter == "" {
		return a
	}
	a.key.name, a.passphrase.name = k.KeyParameter, k.PassphraseParameter
	cfg, err := ssm.LoadConfig(ctx, ssm.Options{Region: ssm.Region(k.KeyParameter)})
	if err != nil {
		a.settings = err
		return a
	}
	a.regionFrom, a.provider = regionFrom(&cfg), ssm.ProviderOf(cfg)
	a.region, a.regionWrong, a.addressWrong = cfg.Region, ssm.CheckRegion(cfg), ssm.CheckEndpoints(cfg)
	if a.region == "" || a.regionWrong != nil {
		return a
	}
	var group sync.WaitGroup
	group.Go(func() { a.identify(ctx, cfg) })
	var endpoint awsFacts // apart, since both goroutines write
	group.Go(func() { endpoint.reach(ctx, cfg) })
	group.Wait()
	a.address, a.addressFrom, a.endpoint = endpoint.address, endpoint.addressFrom, endpoint.endpoint
	if a.credentials != nil || a.addressWrong != nil || a.endpoint.err != nil {
		return a
	}
	group.Go(func() { a.key.read(ctx) })
	group.Go(func() { a.passphrase.read(ctx) })
	group.Wait()
	return a
}

func regionFrom(cfg *aws.Config) string {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if os.Getenv(name) == cfg.Region {
			return name
		}
	}
	inFile := func(source any) bool {
		profile, ok := source.(awsconfig.SharedConfig)
		return ok && profile.Region != ""
	}
	if slices.ContainsFunc(cfg.ConfigSources, inFile) {
		return "the AWS configuration file"
	}
	return "the ARN of the key's parameter"
}

// identify finds out to whom the credentials belong.
func (a *awsFacts) identify(ctx context.Context, cfg aws.Config) {
	first, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := cfg.Credentials.Retrieve(first)
	if err != nil {
		a.credentials = err
		return
	}
	a.source = found.Source
	second, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(second, &sts.GetCallerIdentityInput{})
	if err != nil {
		a.identity = err
		return
	}
	a.arn, a.account = aws.ToString(out.Arn), aws.ToString(out.Account)
}

// reach waits for any answer of SSM, without credentials.
func (a *awsFacts) reach(ctx context.Context, cfg aws.Config) {
	options := awsssm.NewFromConfig(cfg).Options()
	if options.BaseEndpoint != nil {
		a.addressFrom = "the AWS configuration file"
		for _, name := range []string{"AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"} {
			if os.Getenv(name) == *options.BaseEndpoint {
				a.addressFrom = name
				break
			}
		}
	}
	a.endpoint = ask(ctx, func(ctx context.Context) (time.Time, error) {
		endpoint, err := options.EndpointResolverV2.ResolveEndpoint(ctx, awsssm.EndpointParameters{
			Region:       &cfg.Region,
			Endpoint:     options.BaseEndpoint,
			UseFIPS:      aws.Bool(options.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
			UseDualStack: aws.Bool(options.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		})
		if err != nil {
			return time.Time{}, err
		}
		if endpoint.URI.Host == "" {
			return time.Time{}, errors.New("the address has no host")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.URI.String(), nil)
		if err != nil {
			return time.Time{}, err
		}
		a.address = failure.Address(endpoint.URI.String())
		resp, err := options.HTTPClient.Do(req) // the SDK's, with its proxy and its certificates
		if err != nil {
			return time.Time{}, err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
		date, _ := http.ParseTime(resp.Header.Get("Date"))
		return date, nil
	})
}

// read calls SSM twice, since a single call with decryption would not tell a refusal of IAM from one of KMS.
func (p *parameter) read(ctx context.Context) {
	if p.name == "" {
		return
	}
	var key *ssm.Key
	if key, p.unreadable = ssm.NewKey(ssm.Parameters{Key: p.name}); p.unreadable != nil {
		return
	}
	var reader *ssm.Reader
	if reader, p.unreadable = ssm.NewReader(ctx, ssm.Options{}, key); p.unreadable != nil {
		return
	}
	first, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p.description, p.unreadable = reader.Describe(first, key)
	p.source = key.Source()
	if p.unreadable != nil {
		return
	}
	second, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	fetched := reader.Fetch(second, []ssm.Wanted{{Key: key}})[0]
	p.source = key.Source()
	if fetched.Err != nil {
		p.encrypted = fetched.Err
		return
	}
	p.value = fetched.Material.Text
}

func judgeRegion(f *facts) finding {
	if f.aws.settings != nil {
		return fail(f.aws.settings.Error(), "check AWS_PROFILE, AWS_CONFIG_FILE and the other AWS_ variables")
	}
	if f.aws.region == "" {
		return fail("none", "set AWS_REGION, or name the parameter by its ARN")
	}
	if f.aws.regionWrong != nil {
		return failed(f.aws.regionWrong)
	}
	return ok(f.aws.region + ", from " + f.aws.regionFrom)
}

const ignoreSTS = "ignore this if the parameters can be read: run does not call STS"

func judgeCredentials(f *facts) finding {
	a := f.aws
	if _, found := errors.AsType[*processcreds.ProviderError](a.credentials); found {
		return fail(ssm.CredentialsError(a.credentials).Error(), a.provider.Advice(a.credentials))
	}
	if errors.Is(a.credentials, context.DeadlineExceeded) {
		return fail(fmt.Sprintf("none: %v did not answer within %v", a.provider, callTimeout), a.provider.Advice(a.credentials))
	}
	if a.credentials != nil {
		return fail("none: "+ssm.CredentialsError(a.credentials).Error(), a.provider.Advice(a.credentials))
	}
	from := a.credentialsFrom(f)
	if api, found := errors.AsType[smithy.APIError](a.identity); found {
		says := fmt.Sprintf("%s, and STS refuses them: %v", from, ssm.Answer(api))
		if strings.HasPrefix(api.ErrorCode(), "AccessDenied") {
			return warn(says, ignoreSTS)
		}
		refused := fail(says, "check the credentials, and the clock of this machine")
		refused.blocks = false // SSM has the last word
		return refused
	}
	if a.identity != nil {
		return warn(from+", and STS was not reached to say to whom they belong", ignoreSTS)
	}
	says := fmt.Sprintf("%s (account %s), %s", a.arn, a.account, from)
	if f.here != platform.Elsewhere && a.role(f.here) == "" {
		return warn(fmt.Sprintf("%s, in %s that should use %s", says, f.here, f.here.Role()), f.here.OnlyTheRole())
	}
	return ok(says)
}

// role says how this task or pod got the credentials of its own role, "" if these are others.
func (a awsFacts) role(here platform.Platform) string {
	switch {
	case here == platform.ECS && a.source == endpointcreds.ProviderName && os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "":
		return here.Role()
	case here == platform.Pod && a.byToken() != "":
		return here.Role() + ", " + a.byToken()
	}
	return ""
}

// byToken says how a token was exchanged for the credentials, "" if none was.
func (a awsFacts) byToken() string {
	switch a.provider {
	case ssm.WebIdentity:
		return "by web identity" + roleOf(os.Getenv("AWS_ROLE_ARN"))
	case ssm.PodIdentity:
		return "by EKS Pod Identity"
	default:
		return ""
	}
}

func (a awsFacts) credentialsFrom(f *facts) string {
	if from := cmp.Or(a.role(f.here), a.byToken()); from != "" {
		return from
	}
	if f.here == platform.Pod && a.source == ec2rolecreds.ProviderName {
		return "from the node's role"
	}
	return "from " + cmp.Or(map[string]string{
		awsconfig.CredentialsSourceName: "AWS_ACCESS_KEY_ID",
		endpointcreds.ProviderName:      "the container's credentials endpoint",
		ec2rolecreds.ProviderName:       "the instance's role",
	}[a.source], a.source)
}

var roleARN = lazyregexp.New(`^arn:[a-z-]+:iam::\d{12}:role/[\w+=,.@/-]+$`)

// roleOf shows the ARN of a role, and nothing of any other text in its place.
func roleOf(written string) string {
	if !roleARN().MatchString(written) {
		return ""
	}
	return ", role " + written
}

func judgeEndpoint(f *facts) finding {
	a := f.aws
	if a.addressWrong != nil {
		return failed(a.addressWrong)
	}
	address := a.address
	if a.addressFrom != "" {
		address += ", from " + a.addressFrom
	}
	if a.endpoint.err == nil {
		return ok(fmt.Sprintf("%s, answers", address))
	}
	advice := "give the subnet a way there" + f.here.Egress() + ": a NAT gateway, or VPC endpoints for ssm and kms whose security groups allow 443"
	switch {
	case a.address == "":
		return fail("none: "+a.endpoint.err.Error(), fmt.Sprintf("correct the region %s, from %s", a.region, a.regionFrom))
	case a.addressFrom != "":
		advice = "correct " + a.addressFrom + ", or start what it names"
	case noSuchHost(a.endpoint.err):
		advice = fmt.Sprintf("correct the region %s, from %s, if AWS has none of that name; otherwise turn on DNS resolution in the VPC", a.region, a.regionFrom)
	}
	return fail(fmt.Sprintf("%s, does not answer: %s", address, cause(a.endpoint.err)), cmp.Or(onTheWay(a.endpoint.err, a.address), advice))
}

func noSuchHost(err error) bool {
	dns, found := errors.AsType[*net.DNSError](err)
	return found && dns.IsNotFound
}

// onTheWay is the advice about an error of a proxy or of a certificate, "" for other errors.
func onTheWay(err error, address string) string {
	to, _ := url.Parse(address)
	return network.Advice(err, to)
}

// cause is an HTTP client's error without the address, which it repeats.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", callTimeout)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil || !strings.Contains(err.Error(), "\"http") {
			return failure.Text(err.Error())
		}
		err = inner
	}
}

func (p parameter) judgeReadable() finding {
	if p.name == "" {
		return skip("--passphrase-parameter is not set")
	}
	if p.unreadable != nil {
		return callFailed(p.unreadable, "SSM")
	}
	says := fmt.Sprintf("%s, %s, version %s of %s", p.name, p.description.Type, p.description.Version, p.description.Modified.Format(time.RFC3339))
	if p.description.Type != "SecureString" {
		return warn(says+", stored in plain text", "store it again with --type SecureString under a customer managed key")
	}
	return ok(says)
}

func (p parameter) judgeDecryptable() finding {
	if p.name == "" {
		return skip("--passphrase-parameter is not set")
	}
	if p.encrypted != nil {
		return callFailed(p.encrypted, "SSM")
	}
	return ok("allowed")
}
