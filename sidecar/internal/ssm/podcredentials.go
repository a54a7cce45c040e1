package ssm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/sidecar/internal/platform"
)

// What EKS sets in a container whose service account has a role: the first by the service account's annotation, the other
// two by a Pod Identity association.
const (
	webIdentityToken = "AWS_WEB_IDENTITY_TOKEN_FILE" //nolint:gosec // a name
	podIdentityURI   = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	podIdentityToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" //nolint:gosec // a name
)

// CredentialsAdvice says what to do where the SDK got no credentials.
func CredentialsAdvice(err error) string {
	here := platform.Here()
	switch {
	case isProcessError(err):
		return "run it by hand and see what it says"
	case here == platform.Pod && os.Getenv(webIdentityToken) != "":
		return webIdentityAdvice(err)
	case here == platform.Pod && os.Getenv(podIdentityURI) != "":
		return podIdentityAdvice(err)
	}
	return here.GiveRole()
}

// webIdentityAdvice goes by what STS answered to AssumeRoleWithWebIdentity.
func webIdentityAdvice(err error) string {
	api, answered := errors.AsType[smithy.APIError](err)
	if !answered {
		return unreadableToken(webIdentityToken,
			"let the pod reach STS on port 443: egress in its NetworkPolicy, and a NAT gateway or a VPC endpoint for sts")
	}
	switch api.ErrorCode() {
	case "ExpiredTokenException", "ExpiredToken":
		return "the kubelet renews the token in the volume's directory: mount that directory in volumeMounts, without subPath, " +
			"and check the clock of the node"
	case "InvalidIdentityToken", "InvalidIdentityTokenException", "IDPRejectedClaim", "IDPCommunicationError":
		return "create the OIDC provider of this cluster in IAM, with the audience sts.amazonaws.com, and name it in Principal of the role's trust policy"
	case "ValidationError":
		return "correct the role's ARN in the service account's annotation eks.amazonaws.com/role-arn, and start the pod again"
	default:
		return "correct Condition in the role's trust policy: :sub is system:serviceaccount:NAMESPACE:NAME of the pod's service account and " +
			":aud is sts.amazonaws.com, for sts:AssumeRoleWithWebIdentity; or the annotation eks.amazonaws.com/role-arn, if it names another role"
	}
}

// podIdentityAdvice goes by what the agent on the node answered.
func podIdentityAdvice(err error) string {
	agent, answered := errors.AsType[interface {
		error
		HTTPStatusCode() int
		ErrorCode() string
	}](err)
	switch {
	case !answered:
		return unreadableToken(podIdentityToken,
			"run the EKS Pod Identity Agent on the node (the add-on eks-pod-identity-agent), and allow egress to 169.254.170.23 port 80 in the pod's "+
				"NetworkPolicy; on Fargate, where it cannot run, use the service account's annotation eks.amazonaws.com/role-arn")
	case agent.HTTPStatusCode() >= 500:
		return "see the log of the EKS Pod Identity Agent on the node, and let the node reach eks-auth"
	default:
		return "correct the Pod Identity association of the pod's namespace and service account, and the role's trust policy: " +
			"Action sts:AssumeRole and sts:TagSession, for the service pods.eks.amazonaws.com"
	}
}

// unreadableToken is advice about a service account's token that cannot be read, or else otherwise.
func unreadableToken(variable, otherwise string) string {
	path := os.Getenv(variable)
	if path == "" {
		return otherwise
	}
	token, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("let uid %d read the token: set securityContext.fsGroup, or the same runAsUser for all containers, in the pod's spec", os.Getuid())
	case err != nil:
		return "mount the service account's token where " + variable + " says: the variable and the volume come together when EKS creates the pod, so start it again"
	}
	_ = token.Close()
	return otherwise
}

// withNodesRole reports whether credentials in a pod can only be those of its node: its service account has no role.
func withNodesRole() bool {
	for _, name := range []string{webIdentityToken, podIdentityURI, "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		if os.Getenv(name) != "" {
			return false
		}
	}
	return platform.Here() == platform.Pod
}
