package localssm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/awsemulator"
	"github.com/snowkey/snowkey/internal/tools/podtoken"
	"github.com/snowkey/snowkey/internal/tools/testkey"
)

const (
	issuerURL = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF"
	subject   = "system:serviceaccount:app:snowkey"
	audience  = "sts.amazonaws.com"
)

// A cluster has an issuer that the account trusts, and a role for its service account.
type cluster struct {
	t      *testing.T
	server *localssm.Server
	url    string
	issuer podtoken.Issuer
	role   string
	now    time.Time
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, now: time.Now(), issuer: podtoken.Issuer{URL: issuerURL, Key: testkey.Key(1).RSA()}}
	c.server = localssm.New(localssm.WithClock(func() time.Time { return c.now }))
	c.server.Put("/app/key", "value")
	c.server.TrustIssuer(issuerURL, &c.issuer.Key.PublicKey, audience)
	c.role = c.server.PutRole("app", localssm.Trust{Issuer: issuerURL, Subject: subject, Audience: audience})
	local := httptest.NewServer(c.server)
	t.Cleanup(local.Close)
	c.url = local.URL
	return c
}

func (c *cluster) token(change ...func(*podtoken.Token)) string {
	c.t.Helper()
	token := podtoken.Token{Subject: subject, Audience: audience, Issued: c.now, Expires: c.now.Add(time.Hour)}
	for _, f := range change {
		f(&token)
	}
	signed, err := c.issuer.Sign(token)
	noError(c.t, err)
	return signed
}

func assume(t *testing.T, url string, in *sts.AssumeRoleWithWebIdentityInput) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	client := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: &url, Retryer: aws.NopRetryer{}})
	return client.AssumeRoleWithWebIdentity(t.Context(), in)
}

func (c *cluster) assume(token string) (*types.Credentials, error) {
	c.t.Helper()
	out, err := assume(c.t, c.url, &sts.AssumeRoleWithWebIdentityInput{RoleArn: &c.role, RoleSessionName: aws.String("pod"), WebIdentityToken: &token})
	if err != nil {
		return nil, err
	}
	return out.Credentials, nil
}

func of(c *types.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}
}

// moto answers every token with credentials, and LocalStack is built on it, with keys that AWS never gives. Neither knows
// a provider or a trust policy.
func TestConformance_AssumeRoleWithWebIdentity(t *testing.T) {
	c := newCluster(t)
	check := func(t *testing.T, url string) {
		out, err := assume(t, url, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: &c.role, RoleSessionName: aws.String("pod"), WebIdentityToken: aws.String(c.token()), DurationSeconds: aws.Int32(900),
		})
		noError(t, err)
		equal(t, "Arn", aws.ToString(out.AssumedRoleUser.Arn), "arn:aws:sts::"+account+":assumed-role/app/pod")
		if id := aws.ToString(out.AssumedRoleUser.AssumedRoleId); !strings.HasPrefix(id, "ARO") || !strings.HasSuffix(id, ":pod") {
			t.Errorf("AssumedRoleId %s", id)
		}
		wantPrefix(t, "AccessKeyId", aws.ToString(out.Credentials.AccessKeyId), prefix(url))
		equal(t, "length of AccessKeyId", len(*out.Credentials.AccessKeyId), 20)
		equal(t, "length of SecretAccessKey", len(aws.ToString(out.Credentials.SecretAccessKey)), 40)
		if aws.ToString(out.Credentials.SessionToken) == "" {
			t.Error("no SessionToken")
		}
		if in := time.Until(aws.ToTime(out.Credentials.Expiration)); in < 14*time.Minute || in > 16*time.Minute {
			t.Errorf("they expire in %v", in)
		}
	}
	onEachSTS(t, func(t *testing.T, _ string) { check(t, c.url) }, check)
}

func prefix(url string) string {
	if url == awsemulator.LocalStack() {
		return "LSIA"
	}
	return "ASIA"
}

func TestWebIdentity_CredentialsAreForSSMAndSTS(t *testing.T) {
	c := newCluster(t)
	issued, err := c.assume(c.token())
	noError(t, err)
	noError(t, c.get(of(issued)))
	out, err := c.identity(of(issued))
	noError(t, err)
	equal(t, "Arn", aws.ToString(out.Arn), "arn:aws:sts::"+account+":assumed-role/app/pod")
	c.server.DenyParameter("/app/key")
	wantMessage(t, c.get(of(issued)), "User: arn:aws:sts::"+account+":assumed-role/app/pod is not authorized")
	equal(t, "call", c.server.Calls()[0].Names, []string{c.role})
}

// The codes and words are those of AWS: SSM's are in its documentation of common errors, STS's own differ.
func TestWebIdentity_SessionTokenIsRequired(t *testing.T) {
	c := newCluster(t)
	issued, err := c.assume(c.token())
	noError(t, err)
	for name, held := range map[string]aws.Credentials{
		"none":              {AccessKeyID: *issued.AccessKeyId},
		"a wrong one":       {AccessKeyID: *issued.AccessKeyId, SessionToken: *issued.SessionToken + "x"},
		"of another key":    {AccessKeyID: "ASIAAAAAAAAAAAAAAAAA", SessionToken: *issued.SessionToken},
		"with a user's key": {AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", SessionToken: *issued.SessionToken},
	} {
		t.Run(name, func(t *testing.T) {
			const invalid = "The security token included in the request is invalid."
			held.SecretAccessKey = *issued.SecretAccessKey
			wantError(t, c.get(held), "UnrecognizedClientException", invalid)
			_, err := c.identity(held)
			wantError(t, err, "InvalidClientTokenId", invalid)
		})
	}
}

// The signature is that of the AWS SDK, which tests every call with temporary credentials.
func TestWebIdentity_SignatureIsChecked(t *testing.T) {
	const mismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	c := newCluster(t)
	c.url += "/a/path"
	issued, err := c.assume(c.token())
	noError(t, err)
	held := of(issued)
	noError(t, c.get(held))
	held.SecretAccessKey = strings.ToLower(held.SecretAccessKey)
	wantError(t, c.get(held), "InvalidSignatureException", mismatch)
	_, err = c.identity(held)
	wantError(t, err, "SignatureDoesNotMatch", mismatch)
}

func TestWebIdentity_CredentialsExpire(t *testing.T) {
	const expired = "The security token included in the request is expired"
	for name, end := range map[string]func(*cluster){
		"after an hour":         func(c *cluster) { c.now = c.now.Add(time.Hour) },
		"when a test ends them": func(c *cluster) { c.server.ExpireSessions() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			issued, err := c.assume(c.token())
			noError(t, err)
			equal(t, "Expiration", issued.Expiration.Unix(), c.now.Add(time.Hour).Unix())
			noError(t, c.get(of(issued)))
			end(c)
			wantError(t, c.get(of(issued)), "ExpiredTokenException", expired)
			_, err = c.identity(of(issued))
			wantError(t, err, "ExpiredToken", expired)
		})
	}
}

// The words are in issues: mozilla-aws-cli 127 (no provider), amazon-eks-irsa-cfn 18 (audience), aws-sdk-rust 827 (key),
// aws-cdk-for-emr-on-eks 2 (trust policy). Of a wrong signature AWS's words are not known.
func TestWebIdentity_TokenIsRefused(t *testing.T) {
	c := newCluster(t)
	stranger := podtoken.Issuer{URL: issuerURL, Key: testkey.Key(2).RSA()}
	forged, err := stranger.Sign(podtoken.Token{Subject: subject, Audience: audience, Issued: c.now, Expires: c.now.Add(time.Hour)})
	noError(t, err)
	elsewhere := podtoken.Issuer{URL: "https://example.org", Key: c.issuer.Key}
	unknown, err := elsewhere.Sign(podtoken.Token{Subject: subject, Audience: audience, Issued: c.now, Expires: c.now.Add(time.Hour)})
	noError(t, err)
	past := c.now.Add(-time.Second)
	for name, tc := range map[string]struct{ token, code, says string }{
		"no JWT":          {"abcd", "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"},
		"another key":     {forged, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"},
		"another issuer":  {unknown, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://example.org"},
		"not signed":      {strings.TrimRight(c.token(), "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"},
		"expired":         {c.token(func(t *podtoken.Token) { t.Expires = past }), "ExpiredTokenException", fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d", c.now.Unix(), past.Unix())},
		"no expiration":   {c.token(func(t *podtoken.Token) { t.Expires = time.Time{} }), "InvalidIdentityToken", ""},
		"not valid yet":   {c.token(func(t *podtoken.Token) { t.Issued = c.now.Add(time.Minute) }), "InvalidIdentityToken", ""},
		"the audience":    {c.token(func(t *podtoken.Token) { t.Audience = "pods.eks.amazonaws.com" }), "InvalidIdentityToken", "Incorrect token audience"},
		"another subject": {c.token(func(t *podtoken.Token) { t.Subject += "2" }), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.assume(tc.token)
			if says := wantCode(t, err, tc.code); tc.says != "" {
				equal(t, "message", says, tc.says)
			}
		})
	}
}

func TestWebIdentity_RotatedKeyOfTheIssuerRefusesOldTokens(t *testing.T) {
	c := newCluster(t)
	old := c.token()
	c.issuer.Key = testkey.Key(2).RSA()
	c.server.TrustIssuer(issuerURL, &c.issuer.Key.PublicKey, audience)
	_, err := c.assume(old)
	wantCode(t, err, "InvalidIdentityToken")
	_, err = c.assume(c.token())
	noError(t, err)
}

func TestWebIdentity_RoleIsRefused(t *testing.T) {
	c := newCluster(t)
	c.server.PutRole("closed", localssm.Trust{})
	token := c.token()
	for role, code := range map[string]string{
		"arn:aws:iam::" + account + ":role/closed": "AccessDenied",
		"arn:aws:iam::" + account + ":role/none":   "AccessDenied",
		"arn:aws:iam::210987654321:role/app":       "InvalidIdentityToken",
		"arn:aws:iam::" + account + ":user/app":    "ValidationError",
		"app":                                      "ValidationError",
	} {
		_, err := assume(t, c.url, &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: aws.String("pod"), WebIdentityToken: &token})
		wantCode(t, err, code)
	}
}

func TestWebIdentity_RequestIsChecked(t *testing.T) {
	c := newCluster(t)
	for name, change := range map[string]func(url.Values){
		"a session's name of one letter": func(f url.Values) { f.Set("RoleSessionName", "a") },
		"a session's name with a space":  func(f url.Values) { f.Set("RoleSessionName", "a b") },
		"a long session's name":          func(f url.Values) { f.Set("RoleSessionName", strings.Repeat("a", 65)) },
		"no token":                       func(f url.Values) { f.Del("WebIdentityToken") },
		"a long token":                   func(f url.Values) { f.Set("WebIdentityToken", strings.Repeat("a", 20001)) },
		"too short a session":            func(f url.Values) { f.Set("DurationSeconds", "899") },
		"too long a session":             func(f url.Values) { f.Set("DurationSeconds", "43201") },
		"longer than the role's":         func(f url.Values) { f.Set("DurationSeconds", "3601") },
		"no number":                      func(f url.Values) { f.Set("DurationSeconds", "900s") },
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{
				"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {c.role}, "RoleSessionName": {"pod"}, "WebIdentityToken": {c.token()},
			}
			status, _ := postForm(t, c.url, form)
			equal(t, "status", status, http.StatusOK)
			change(form)
			status, body := postForm(t, c.url, form)
			equal(t, "status", status, http.StatusBadRequest)
			wantMessage(t, errors.New(body), "<Code>ValidationError</Code>")
		})
	}
}

func postForm(t *testing.T, to string, form url.Values) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	noError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, req)
}

func send(t *testing.T, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	noError(t, err)
	return resp.StatusCode, string(text)
}

func (c *cluster) get(held aws.Credentials) error {
	c.t.Helper()
	client := ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: &c.url, Retryer: aws.NopRetryer{}, Credentials: credentials.StaticCredentialsProvider{Value: held},
	})
	_, err := client.GetParameters(c.t.Context(), &ssm.GetParametersInput{Names: []string{"/app/key"}})
	return err
}

func (c *cluster) identity(held aws.Credentials) (*sts.GetCallerIdentityOutput, error) {
	c.t.Helper()
	client := sts.New(sts.Options{
		Region: "us-east-1", BaseEndpoint: &c.url, Retryer: aws.NopRetryer{}, Credentials: credentials.StaticCredentialsProvider{Value: held},
	})
	return client.GetCallerIdentity(c.t.Context(), &sts.GetCallerIdentityInput{})
}

// What the agent says is in its source, aws/eks-pod-identity-agent. The words of ResourceNotFoundException and
// InvalidTokenException, which EKS Auth says, are not documented.
func TestPodIdentityAgent_GivesCredentials(t *testing.T) {
	c := newCluster(t)
	agent := c.server.PodIdentityAgent(issuerURL, &c.issuer.Key.PublicKey)
	local := httptest.NewServer(agent)
	t.Cleanup(local.Close)
	forPods := func(t *podtoken.Token) { t.Audience = localssm.PodIdentityAudience }
	role := c.server.PutRole("pods", localssm.Trust{PodIdentity: true})
	get := func(path, token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, local.URL+path, nil)
		noError(t, err)
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		return send(t, req)
	}

	agent.Associate(subject, role)
	status, body := get("/v1/credentials", c.token(forPods))
	equal(t, "status", status, http.StatusOK)
	var out struct {
		AccessKeyID, SecretAccessKey, Token, AccountID string
		Expiration                                     time.Time
	}
	noError(t, json.Unmarshal([]byte(body), &out))
	equal(t, "AccountId", out.AccountID, account)
	equal(t, "Expiration", out.Expiration.Unix(), c.now.Add(6*time.Hour).Unix())
	noError(t, c.get(aws.Credentials{AccessKeyID: out.AccessKeyID, SecretAccessKey: out.SecretAccessKey, SessionToken: out.Token}))

	for name, tc := range map[string]struct {
		role, token string
		status      int
		says        string
	}{
		"no token":        {role, "", 400, "Service account token cannot be empty\n"},
		"no JWT":          {role, "abcd", 400, "Service account token cannot be parsed: "},
		"expired":         {role, c.token(forPods, func(t *podtoken.Token) { t.Expires = c.now.Add(-time.Second) }), 400, "Service account token failed basic claim validations: "},
		"the audience":    {role, c.token(), 400, "(InvalidTokenException)"},
		"no association":  {"", c.token(forPods), 404, "(ResourceNotFoundException)"},
		"no trust":        {c.role, c.token(forPods), 400, "(AccessDeniedException): Unauthorized Exception! EKS does not have permissions to assume the associated role., fault: client"},
		"another account": {"arn:aws:iam::210987654321:role/pods", c.token(forPods), 400, "(AccessDeniedException)"},
	} {
		t.Run(name, func(t *testing.T) {
			agent.Associate(subject, tc.role)
			status, body := get("/v1/credentials", tc.token)
			equal(t, "status", status, tc.status)
			wantMessage(t, errors.New(body), tc.says)
		})
	}
	status, _ = get("/v2/credentials", c.token(forPods))
	equal(t, "status", status, http.StatusNotFound)
	stranger := c.server.PodIdentityAgent(issuerURL, &testkey.Key(2).RSA().PublicKey)
	_, err := c.assume(c.token(forPods))
	wantCode(t, err, "InvalidIdentityToken")
	recorder := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/v1/credentials", nil)
	req.Header.Set("Authorization", c.token(forPods))
	stranger.ServeHTTP(recorder, req)
	equal(t, "status", recorder.Code, http.StatusBadRequest)
}
