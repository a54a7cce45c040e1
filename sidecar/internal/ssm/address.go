package ssm

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// CheckRegion refuses a Region that does not exist: the SDK would make a host name of it, which no call can reach. Its
// error names the setting and what to write, and does not repeat the value.
func CheckRegion(cfg aws.Config) error {
	if cfg.Region == "" || isRegion(cfg.Region) {
		return nil
	}
	setting := cmp.Or(settingOf(cfg.Region, "AWS_REGION", "AWS_DEFAULT_REGION"), "the region in the AWS configuration file")
	return failure.New(keyfile.ClassOther, errors.New(setting+" is not a Region as AWS writes it"), rightRegion(cfg.Region))
}

// CheckEndpoints does the same for endpoints in the settings.
func CheckEndpoints(cfg aws.Config) error {
	for variable, endpoint := range map[string]*string{
		"AWS_ENDPOINT_URL_SSM": ssm.NewFromConfig(cfg).Options().BaseEndpoint,
		"AWS_ENDPOINT_URL_STS": sts.NewFromConfig(cfg).Options().BaseEndpoint,
	} {
		if endpoint == nil {
			continue
		}
		setting := cmp.Or(settingOf(*endpoint, variable, "AWS_ENDPOINT_URL"), "the endpoint_url in the AWS configuration file")
		u, err := url.Parse(*endpoint)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
			return failure.New(keyfile.ClassOther, errors.New(setting+" is not the address of an endpoint"), "write https://HOST or http://HOST:PORT")
		case u.User != nil:
			return failure.New(keyfile.ClassOther, errors.New(setting+" has a user or a password in it, which AWS does not take"), "write https://HOST without them")
		}
	}
	return nil
}

// settingOf is the variable that has this value, "" if none of them has it.
func settingOf(value string, variables ...string) string {
	for _, variable := range variables {
		if os.Getenv(variable) == value {
			return variable
		}
	}
	return ""
}

var (
	regionPattern = lazyregexp.New(`^[a-z]{2,5}(?:-[a-z]+)+-\d+$`)
	// An availability, local or wavelength zone begins with its Region.
	zonePattern     = lazyregexp.New(`^([a-z]{2,5}(?:-[a-z]+)+)-?(\d+)(?:[a-z]|-[a-z0-9-]+[a-z0-9])?$`)
	regionSeparator = lazyregexp.New(`[\s_-]+`)
)

func isRegion(written string) bool {
	return regionPattern().MatchString(written) && withoutFIPS(written) == written
}

// withoutFIPS is a Region without the mark that some programs write for its FIPS endpoints.
func withoutFIPS(written string) string {
	return strings.TrimSuffix(strings.TrimPrefix(written, "fips-"), "-fips")
}

// rightRegion says what to write instead. It repeats nothing but the name of a Region: the value may be a secret in the
// wrong place.
func rightRegion(written string) string {
	written = regionSeparator().ReplaceAllString(strings.ToLower(strings.Trim(written, "\"' \t\r\n")), "-")
	if plain := withoutFIPS(written); plain != written && isRegion(plain) {
		return "write " + plain + ", and AWS_USE_FIPS_ENDPOINT=true"
	}
	if m := zonePattern().FindStringSubmatch(written); m != nil {
		return "write " + m[1] + "-" + m[2]
	}
	return "write one such as eu-west-1"
}

// A failedCall is an error of a call that was made, with the address that was really called.
type failedCall struct {
	error
	to *url.URL
}

func (f failedCall) Unwrap() error { return f.error }

// addressErrors adds the address to an error, after the SDK has chosen it.
func addressErrors(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	out, metadata, err := next.HandleFinalize(ctx, in)
	if request, ok := in.Request.(*smithyhttp.Request); ok && err != nil {
		err = failedCall{err, request.URL}
	}
	return out, metadata, err
}

// hostOf is the host and port that a failed call went to, "" if none was made.
func hostOf(err error) string {
	call, ok := errors.AsType[failedCall](err)
	if !ok || call.to.Hostname() == "" {
		return ""
	}
	port := cmp.Or(call.to.Port(), map[string]string{"http": "80", "https": "443"}[call.to.Scheme])
	return failure.Text(net.JoinHostPort(call.to.Hostname(), port))
}

const vpc = " (a NAT gateway, or VPC endpoints for ssm and kms and their security groups)"

// wayAdvice is about a call that SSM did not answer. The deadline may come while no request is under way.
func (e endpoint) wayAdvice(err error) string {
	host := cmp.Or(hostOf(err), "SSM in "+e.region)
	call, _ := errors.AsType[failedCall](err)
	if advice := network.Advice(err, call.to); advice != "" {
		return advice
	}
	if e.endpointFrom != "" {
		return "check the way to " + host + ", which " + e.endpointFrom + " names"
	}
	return "check the way to " + host + platform.Here().Egress() + vpc
}
