package ssm

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// Without a bound these answers took all memory for the 20 seconds that a call may take.
func TestAnAnswerWithoutAnEndIsNotReadToItsEnd(t *testing.T) {
	for name, status := range map[string]int{"result": http.StatusOK, "error": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			var wrote atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"Parameters":[{"Name":"/a","Value":"`)
				for chunk := []byte(strings.Repeat("A", 64<<10)); wrote.Load() < 100*maxAnswer; {
					n, err := w.Write(chunk)
					if wrote.Add(int64(n)); err != nil {
						return
					}
				}
			}))
			defer server.Close()
			for variable, value := range map[string]string{
				"AWS_ENDPOINT_URL_SSM": server.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
				"AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
			} {
				t.Setenv(variable, value)
			}
			s, err := openReading(t.Context(), Parameters{Key: "/a"})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Fetch(t.Context(), s.wanted(make([]Revision, 1)))[0].Err
			if err == nil || failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "longer than 4 MiB") {
				t.Errorf("error %v of class %s", err, failure.Class(err))
			}
			if wrote.Load() >= 100*maxAnswer {
				t.Error("it was read to the end")
			}
		})
	}
}

// The longest that AWS can answer is read.
func TestTenLongestSecretsFit(t *testing.T) {
	longest := strings.Repeat("\\u0001", 10*64<<10) + strings.Repeat(" ", 64<<10)
	body := &boundedBody{io.NopCloser(strings.NewReader(longest)), maxAnswer}
	if read, err := io.ReadAll(body); err != nil || len(read) != len(longest) {
		t.Errorf("%d of %d bytes, %v", len(read), len(longest), err)
	}
}

// An answer that comes before net/http is done with the body lost its connection, a few in a hundred.
func TestAnAnswerMayComeBeforeTheRequestIsDoneWith(t *testing.T) {
	var body io.ReadCloser
	client := ssm.New(ssm.Options{
		Region: "us-east-1", Credentials: credentials, HTTPClient: transport{doFunc(func(r *http.Request) (*http.Response, error) {
			body = r.Body
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"Parameters":[]}`))}, nil
		})},
	})
	if _, err := client.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{"/a"}}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, body); n != 0 || err != nil {
		t.Errorf("%d bytes and %v of the body that the SDK has closed: net/http takes an error for one of the connection", n, err)
	}
}

type doFunc func(*http.Request) (*http.Response, error)

func (do doFunc) Do(r *http.Request) (*http.Response, error) { return do(r) }

var credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
})
