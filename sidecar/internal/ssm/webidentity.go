package ssm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// The settings of the two token files and of the agent that takes the second one, which EKS puts into a pod.
const (
	webIdentityFile   = "AWS_WEB_IDENTITY_TOKEN_FILE"
	authorizationFile = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
	agentURI          = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
)

// settingOfToken is the setting that names the file of a web identity.
func settingOfToken(path string) string {
	return cmp.Or(settingOf(path, webIdentityFile), "web_identity_token_file of the profile")
}

// A tokenFile is read again for each token, since the kubelet replaces it.
type tokenFile struct{ setting, path string }

// GetIdentityToken is for web identity.
func (f tokenFile) GetIdentityToken() ([]byte, error) {
	token, err := readToken(f.path)
	if err != nil {
		return nil, fmt.Errorf("the token file in %s: %w", f.setting, err)
	}
	return token, nil
}

// GetToken is for the credentials endpoint.
func (f tokenFile) GetToken() (string, error) {
	token, err := f.GetIdentityToken()
	if bytes.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("the token file in %s: %w", f.setting, errNewline)
	}
	return string(token), err
}

// maxToken is STS's.
const maxToken = 20000

var (
	errNewline    = errors.New("it has a newline")
	errEmptyToken = errors.New("it is empty")
	errNoToken    = errors.New("it is not a regular file")
	errLongToken  = fmt.Errorf("it is longer than a token of at most %d bytes", maxToken)
)

// readToken never has a path in its errors, and does not wait at a pipe or a device.
func readToken(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errNoToken
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	token, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(token) == 0:
		return nil, errEmptyToken
	case len(token) > maxToken:
		return nil, errLongToken
	}
	return token, nil
}

func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// A tokenExchange calls STS for the credentials of a web identity. The SDK needs it while it loads the settings, and its
// client has to have all of them.
type tokenExchange struct{ client func() *sts.Client }

// connect makes the client when it is first used. The timeout is for one attempt.
func (e *tokenExchange) connect(cfg aws.Config, timeout time.Duration) {
	e.client = sync.OnceValue(func() *sts.Client {
		if buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
			cfg.HTTPClient = withoutWriteTo{buildable.WithTimeout(timeout)}
		}
		cfg.Credentials = nil // the call is not signed
		return sts.NewFromConfig(cfg)
	})
}

// renewEarly is how long before they expire credentials are renewed: a call takes its time, and this machine's clock may
// be slow. The SDK does the same for those of the credentials endpoint.
const renewEarly = 5 * time.Minute

// AssumeRoleWithWebIdentity calls STS, and gives the credentials an earlier end.
func (e *tokenExchange) AssumeRoleWithWebIdentity(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput, options ...func(*sts.Options)) (
	*sts.AssumeRoleWithWebIdentityOutput, error,
) {
	out, err := e.client().AssumeRoleWithWebIdentity(ctx, in, options...)
	if err != nil || out.Credentials == nil || out.Credentials.Expiration == nil {
		return out, err
	}
	out.Credentials.Expiration = aws.Time(out.Credentials.Expiration.Add(-renewEarly))
	return out, nil
}

// renewRefused makes the next call get new credentials after AWS refused the present ones as expired or unknown. The
// SDK would use them until the end that it was told.
func renewRefused(cfg *aws.Config) {
	cache, ok := cfg.Credentials.(*aws.CredentialsCache)
	if !ok {
		return
	}
	renew := middleware.InitializeMiddlewareFunc("snowkey:renew", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		if api, ok := errors.AsType[smithy.APIError](err); ok && sessionRefused(api) {
			cache.Invalidate()
		}
		return out, metadata, err
	})
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), func(stack *middleware.Stack) error {
		return stack.Initialize.Add(renew, middleware.Before)
	})
}

func sessionRefused(api smithy.APIError) bool {
	switch api.ErrorCode() {
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId":
		return true
	}
	return false
}
