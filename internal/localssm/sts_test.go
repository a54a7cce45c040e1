package localssm_test

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/snowkey/snowkey/internal/localssm"
)

// Like the other conformance cases it also runs against moto if there is one.
func TestConformanceOfTheCallersIdentity(t *testing.T) {
	endpoints := map[string]string{"moto": os.Getenv("MOTO_ENDPOINT")}
	local := httptest.NewServer(localssm.New())
	defer local.Close()
	endpoints["local"] = local.URL
	for name, url := range endpoints {
		if url == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out, err := identity(t, url)
			if err != nil {
				t.Fatal(err)
			}
			arn := aws.ToString(out.Arn)
			if aws.ToString(out.Account) != "123456789012" || !strings.HasPrefix(arn, "arn:aws:sts::123456789012:") || aws.ToString(out.UserId) == "" {
				t.Errorf("answered %s, %s, %s", aws.ToString(out.Account), arn, aws.ToString(out.UserId))
			}
		})
	}
}

func TestTheCallersIdentityCanBeRefused(t *testing.T) {
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
	client := sts.New(sts.Options{
		Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	return client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
}
