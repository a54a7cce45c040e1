package ssm

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/network"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// A Provider is a source of credentials, as far as advice tells sources apart.
type Provider int

// The providers that advice tells apart.
const (
	OtherProvider Provider = iota
	WebIdentity            // a token that STS takes: a service account with eks.amazonaws.com/role-arn
	PodIdentity            // a token that EKS's agent takes: a Pod Identity association
)

// ProviderOf is the provider that the SDK has chosen.
func ProviderOf(cfg aws.Config) Provider {
	cache, ok := cfg.Credentials.(*aws.CredentialsCache)
	if !ok {
		return OtherProvider
	}
	sources := cache.ProviderSources()
	switch {
	case slices.Contains(sources, aws.CredentialSourceEnvVarsSTSWebIDToken), slices.Contains(sources, aws.CredentialSourceProfileSTSWebIDToken):
		return WebIdentity
	case slices.Contains(sources, aws.CredentialSourceHTTP) && os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") == "" && os.Getenv(authorizationFile) != "":
		return PodIdentity
	default:
		return OtherProvider
	}
}

// withNodesRole reports whether credentials in a pod can only be those of its node: its service account has no role.
func (p Provider) withNodesRole() bool {
	if p != OtherProvider || platform.Here() != platform.Pod {
		return false
	}
	for _, name := range []string{agentURI, "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		if os.Getenv(name) != "" {
			return false
		}
	}
	return true
}

// credentialsFailed reports whether the SDK got no credentials for a call, and why.
func credentialsFailed(err error) (failed bool, cause error) {
	for cause = err; cause != nil; cause = errors.Unwrap(cause) {
		text := cause.Error()
		if strings.HasPrefix(text, "failed to refresh cached credentials") {
			return true, cause
		}
	}
	return strings.Contains(err.Error(), "get credentials: "), err
}

// An endpointAnswer is an error that a credentials endpoint answered, such as EKS's agent.
type endpointAnswer interface {
	error
	HTTPStatusCode() int
	ErrorCode() string
	ErrorMessage() string
}

// CredentialsError says why there are no credentials, and repeats nothing of settings, files or tokens.
func CredentialsError(err error) error {
	if isProcessError(err) { // which repeats what the program printed
		return errors.New("credential_process of the AWS profile gave none")
	}
	if endpoint, ok := errors.AsType[endpointAnswer](err); ok { // which may repeat the token
		if code := eksCode(endpoint); code != "" {
			return fmt.Errorf("the credentials endpoint answered with status %d, %s", endpoint.HTTPStatusCode(), code)
		}
		return fmt.Errorf("the credentials endpoint answered with status %d", endpoint.HTTPStatusCode())
	}
	if api, ok := tokenRefused(err); ok {
		return fmt.Errorf("STS refused the token: %w", tokenAnswer(api))
	}
	return failure.Redact(err)
}

func isProcessError(err error) bool {
	_, ok := errors.AsType[*processcreds.ProviderError](err)
	return ok
}

// eksCodes are the errors of EKS Auth, which its agent passes on.
var eksCodes = []string{
	"AccessDeniedException", "ExpiredTokenException", "InternalServerException", "InvalidParameterException", "InvalidRequestException",
	"InvalidTokenException", "ResourceNotFoundException", "ServiceUnavailableException", "ThrottlingException",
}

// eksCode is the code of EKS Auth in an answer of its agent, "" if there is none.
func eksCode(answer endpointAnswer) string {
	for _, code := range eksCodes {
		if strings.Contains(answer.ErrorMessage(), "("+code+")") || answer.ErrorCode() == code {
			return code
		}
	}
	return ""
}

// tokenRefused returns STS's answer to a token.
func tokenRefused(err error) (smithy.APIError, bool) {
	operation, ok := errors.AsType[*smithy.OperationError](err)
	for ok && operation.Operation() != "AssumeRoleWithWebIdentity" {
		operation, ok = errors.AsType[*smithy.OperationError](operation.Err)
	}
	if !ok {
		return nil, false
	}
	return errors.AsType[smithy.APIError](operation)
}

var (
	jwtInMessage    = lazyregexp.New(`eyJ[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]*)*`)
	memberInMessage = lazyregexp.New(`at '([A-Za-z]{1,40})' failed`)
)

// tokenAnswer is STS's answer without the values that it repeats.
func tokenAnswer(api smithy.APIError) error {
	if api.ErrorCode() != "ValidationError" {
		return errors.New(failure.Text(jwtInMessage().ReplaceAllString(api.ErrorCode()+": "+api.ErrorMessage(), "...")))
	}
	if m := memberInMessage().FindStringSubmatch(api.ErrorMessage()); m != nil {
		return errors.New("ValidationError of " + m[1])
	}
	return errors.New("ValidationError")
}

// String names the provider as the subject of a message.
func (p Provider) String() string {
	switch p {
	case WebIdentity:
		return "STS (with the token in " + webIdentityFile + ")"
	case PodIdentity:
		return "the Pod Identity agent"
	default:
		return "the credentials provider"
	}
}

// Advice is about an error for which there are no credentials.
func (p Provider) Advice(err error) string {
	switch {
	case isProcessError(err):
		return "run it by hand and see what it says"
	case p == WebIdentity:
		return webIdentityAdvice(err)
	case p == PodIdentity:
		return podIdentityAdvice(err)
	default:
		return platform.Here().GiveRole()
	}
}

func webIdentityAdvice(err error) string {
	if advice := tokenFileAdvice(err, webIdentityFile); advice != "" {
		return advice
	}
	api, refused := tokenRefused(err)
	if !refused && roleRefused(err) {
		return correctProfilesRole
	}
	if !refused {
		return stsAdvice(err)
	}
	const annotation = "eks.amazonaws.com/role-arn of the service account (AWS_ROLE_ARN)"
	switch api.ErrorCode() {
	case "AccessDenied":
		return "correct " + annotation + ", or the trust policy of that role: it has to allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider, with :sub " +
			cmp.Or(subjectOfToken(webIdentityFile), "system:serviceaccount:NAMESPACE:NAME") + " and :aud sts.amazonaws.com"
	case "ExpiredTokenException":
		return "mount the service account token as a projected volume, not as a copy or by subPath: the kubelet replaces it there; and check the clock of this machine"
	case "InvalidIdentityToken":
		return "create the cluster's OIDC provider in IAM, in the account of the role, with audience sts.amazonaws.com, and give that audience to the token of the projected volume; or correct " + annotation
	case "ValidationError":
		return "correct " + annotation + ", AWS_ROLE_SESSION_NAME, or the token in " + webIdentityFile
	case "RegionDisabledException":
		return "activate STS for this Region in the account settings of IAM"
	}
	return "nothing to do here: the sidecar tries again; see the AWS Health Dashboard if it lasts"
}

// A profile may have a role_arn of its own, which is assumed with the credentials that a pod's token gave.
const correctProfilesRole = "correct role_arn of the AWS profile, or the trust policy of that role: it has to allow sts:AssumeRole to the role of the pod's service account"

// roleRefused reports whether STS answered with a refusal to a call that sends no token.
func roleRefused(err error) bool {
	operation, ok := errors.AsType[*smithy.OperationError](err)
	for ok && operation.Operation() != "AssumeRole" {
		operation, ok = errors.AsType[*smithy.OperationError](operation.Err)
	}
	if !ok {
		return false
	}
	_, answered := errors.AsType[smithy.APIError](operation)
	return answered
}

// stsAdvice is about STS that did not answer.
func stsAdvice(err error) string {
	if call, ok := errors.AsType[failedCall](err); ok {
		if advice := network.Advice(err, call.to); advice != "" {
			return advice
		}
	}
	return "let the pod reach " + cmp.Or(hostOf(err), "STS in its Region") + ": by egress in its NetworkPolicy, and a NAT gateway or a VPC endpoint for sts"
}

func podIdentityAdvice(err error) string {
	if advice := tokenFileAdvice(err, authorizationFile); advice != "" {
		return advice
	}
	const mount = "mount the service account token as a projected volume with audience pods.eks.amazonaws.com, not as a copy or by subPath: the kubelet replaces it there"
	answer, answered := errors.AsType[endpointAnswer](err)
	if !answered && roleRefused(err) {
		return correctProfilesRole
	}
	if !answered {
		return "install the add-on eks-pod-identity-agent, see that it runs on this node, and let the pod's NetworkPolicy reach " + agentHost() +
			"; Fargate has no agent: annotate the service account with eks.amazonaws.com/role-arn there"
	}
	code, status := eksCode(answer), answer.HTTPStatusCode()
	switch {
	case code == "ResourceNotFoundException":
		return "create a Pod Identity association of the pod's service account" + of(subjectOfToken(authorizationFile)) + " in this cluster"
	case code == "AccessDeniedException":
		return "let the trust policy of the role in the Pod Identity association allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com, and the node's role eks-auth:AssumeRoleForPodIdentity"
	case status == 404:
		return "correct " + agentURI + ": EKS sets http://169.254.170.23/v1/credentials"
	case status >= 500, status == 429:
		return "nothing to do here: the sidecar tries again; see the log of eks-pod-identity-agent on this node if it lasts"
	default:
		return mount + "; or create a Pod Identity association of the service account and the pod again"
	}
}

func of(subject string) string {
	if subject == "" {
		return ""
	}
	return " " + strings.Replace(strings.TrimPrefix(subject, "system:serviceaccount:"), ":", "/", 1)
}

// agentHost is the host of the agent, which is not a secret, in contrast to the path.
func agentHost() string {
	u, err := url.Parse(os.Getenv(agentURI))
	if err != nil || u.Hostname() == "" {
		return "169.254.170.23"
	}
	return u.Host
}

// tokenFileAdvice is about an error of [tokenFile], "" for any other one. The SDK keeps only its text.
func tokenFileAdvice(err error, setting string) string {
	text := err.Error()
	switch {
	case !strings.Contains(text, "the token file in "):
		return ""
	case strings.Contains(text, errNewline.Error()):
		return "write the token alone into the file, as the kubelet does"
	case strings.Contains(text, syscall.EACCES.Error()):
		return fmt.Sprintf("set securityContext.fsGroup, or the same runAsUser for all containers, in the pod's spec, so that uid %d may read the token", os.Getuid())
	case setting == authorizationFile:
		return "correct " + setting + ", or create a Pod Identity association of the service account and the pod again: EKS mounts the token then"
	default:
		return "correct " + setting + ", or annotate the service account with eks.amazonaws.com/role-arn and create the pod again: EKS mounts the token then"
	}
}

var subjectPattern = lazyregexp.New(`^system:serviceaccount:[a-z0-9.-]{1,63}:[a-z0-9.-]{1,253}$`)

// subjectOfToken is the service account of the token in the token file, "" if it is not one of a service account. It is
// no secret.
func subjectOfToken(setting string) string {
	token, err := readToken(os.Getenv(setting))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(token), ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(text, &claims) != nil || !subjectPattern().MatchString(claims.Subject) {
		return ""
	}
	return claims.Subject
}
