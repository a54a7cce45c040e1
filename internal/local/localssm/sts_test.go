package localssm_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
)

// onEachSTS runs a check of AWS's behaviour against ours, and what is left of it against emulators.
func onEachSTS(t *testing.T, ours, others func(t *testing.T, url string)) {
	t.Run("local", func(t *testing.T) {
		local := httptest.NewServer(localssm.New())
		t.Cleanup(local.Close)
		ours(t, local.URL)
	})
	for name, url := range awsemulator.Endpoints() {
		t.Run(name, func(t *testing.T) { others(t, url) })
	}
}

func TestConformance_CallersIdentity(t *testing.T) {
	check := func(resource string) func(t *testing.T, url string) {
		return func(t *testing.T, url string) {
			out, err := identity(t, url)
			noError(t, err)
			equal(t, "Account", aws.ToString(out.Account), account)
			wantPrefix(t, "Arn", aws.ToString(out.Arn), "arn:aws:"+resource)
			if aws.ToString(out.UserId) == "" {
				t.Error("no UserId")
			}
		}
	}
	onEachSTS(t, check("sts::"+account+":assumed-role/"), func(t *testing.T, url string) {
		check("")(t, url) // moto's caller is a federated user, LocalStack's the root user
	})
}

// AWS's STS answers 403 to a request without a signature; the words are in aws-privateca-issuer, issue 40. Without one moto
// does not know which service is meant, and answers as S3; LocalStack answers as with one.
func TestConformance_UnsignedCallersIdentity(t *testing.T) {
	onEachSTS(t, func(t *testing.T, url string) {
		status, body := unsignedIdentity(t, url)
		equal(t, "status", status, http.StatusForbidden)
		for _, part := range []string{"<Code>MissingAuthenticationToken</Code>", "<Message>Request is missing Authentication Token</Message>"} {
			if !strings.Contains(body, part) {
				t.Errorf("no %s in %s", part, body)
			}
		}
	}, func(t *testing.T, url string) {
		status, _ := unsignedIdentity(t, url)
		equal(t, "status", status, http.StatusOK)
	})
}

func unsignedIdentity(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
	noError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	noError(t, err)
	return resp.StatusCode, string(text)
}

func TestConformance_CallersIdentityInAnotherRegion(t *testing.T) {
	onEachSTS(t, func(t *testing.T, url string) {
		_, err := identityIn(t, url, "eu-west-1")
		wantPrefix(t, "message", wantCode(t, err, "SignatureDoesNotMatch"), "Credential should be scoped to a valid region")
	}, func(t *testing.T, url string) {
		out, err := identityIn(t, url, "eu-west-1") // one endpoint is every Region's; AWS has an endpoint for each
		noError(t, err)
		equal(t, "Account", aws.ToString(out.Account), account)
	})
}

func TestSTS_CanRefuse(t *testing.T) {
	server := localssm.New()
	local := httptest.NewServer(server)
	defer local.Close()
	server.Intercept(func(localssm.Call) *localssm.Fault {
		return &localssm.Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid"}
	})
	if _, err := identity(t, local.URL); err == nil || !strings.Contains(err.Error(), "InvalidClientTokenId: The security token") {
		t.Errorf("error %v", err)
	}
}

func identity(t *testing.T, url string) (*sts.GetCallerIdentityOutput, error) {
	t.Helper()
	return identityIn(t, url, "us-east-1")
}

func identityIn(t *testing.T, url, region string) (*sts.GetCallerIdentityOutput, error) {
	t.Helper()
	client := sts.New(sts.Options{
		Region: region, BaseEndpoint: &url, Retryer: aws.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider(awsemulator.AccessKey, "secret", ""),
	})
	return client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
}
