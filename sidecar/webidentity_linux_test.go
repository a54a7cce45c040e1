package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/podtoken"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	issuerURL     = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF"
	podSubject    = "system:serviceaccount:app:snowkey"
	stsAudience   = "sts.amazonaws.com"
	awaySubject   = "system:serviceaccount:app:other"
	webIdentity   = "AWS_WEB_IDENTITY_TOKEN_FILE"
	authorization = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
)

// A pod is a task with credentials by a service account token. The tokens and all that was given for them are searched
// for in the output of its processes.
type pod struct {
	*task
	endpoint string // of SSM and STS
	issuer   podtoken.Issuer
	audience string
	volume   *podtoken.Volume
	role     string
	agent    *localssm.PodIdentityAgent // nil for web identity
	tokens   []string
}

// newPod has a token that holds for an hour.
func newPod(t *testing.T, k *task, audience, setting string) *pod {
	t.Helper()
	unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k)
	p := &pod{
		task: k, audience: audience, issuer: podtoken.Issuer{URL: issuerURL, Key: testkey.Key(1).RSA()}, endpoint: k.env["AWS_ENDPOINT_URL_SSM"],
	}
	dir := tmpfs(t)
	k.must(os.Chmod(dir, 0o755))
	p.volume = podtoken.NewVolume(dir, "token", 0o644)
	k.env["KUBERNETES_SERVICE_HOST"] = "10.100.0.1"
	k.env[setting] = p.volume.Path()
	p.rotateToken()
	return p
}

// byWebIdentity is what EKS sets in a pod whose service account has eks.amazonaws.com/role-arn.
func byWebIdentity(t *testing.T, k *task) *pod {
	t.Helper()
	p := newPod(t, k, stsAudience, webIdentity)
	k.ssm.TrustIssuer(issuerURL, &p.issuer.Key.PublicKey, stsAudience)
	p.role = k.ssm.PutRole("app", localssm.Trust{Issuer: issuerURL, Subject: podSubject, Audience: stsAudience})
	k.env["AWS_ROLE_ARN"], k.env["AWS_ROLE_SESSION_NAME"] = p.role, "snowkey"
	k.env["AWS_ENDPOINT_URL_STS"] = p.endpoint
	return p
}

// byPodIdentity is what EKS sets in a pod whose service account has a Pod Identity association.
func byPodIdentity(t *testing.T, k *task) *pod {
	t.Helper()
	p := newPod(t, k, localssm.PodIdentityAudience, authorization)
	p.agent = k.ssm.PodIdentityAgent(issuerURL, &p.issuer.Key.PublicKey)
	p.role = k.ssm.PutRole("app", localssm.Trust{PodIdentity: true})
	p.agent.Associate(podSubject, p.role)
	agent := httptest.NewServer(p.agent)
	t.Cleanup(agent.Close)
	k.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.URL + "/v1/credentials"
	k.env["AWS_ENDPOINT_URL_STS"] = p.endpoint
	return p
}

// ways are both.
var ways = map[string]func(*testing.T, *task) *pod{"web identity": byWebIdentity, "Pod Identity": byPodIdentity}

func (p *pod) sign(change ...func(*podtoken.Token)) string {
	p.t.Helper()
	token := podtoken.Token{Subject: podSubject, Audience: p.audience, Issued: time.Now().Add(-time.Second), Expires: time.Now().Add(time.Hour)}
	for _, f := range change {
		f(&token)
	}
	signed, err := p.issuer.Sign(token)
	p.must(err)
	return signed
}

// rotateToken puts a new token into the volume.
func (p *pod) rotateToken(change ...func(*podtoken.Token)) {
	p.t.Helper()
	token := p.sign(change...)
	p.tokens = append(p.tokens, token)
	p.must(p.volume.Write(token))
}

// refuseOldTokens makes the cluster sign with another key, and puts a token of it into the volume.
func (p *pod) refuseOldTokens() {
	p.t.Helper()
	p.issuer.Key = testkey.Key(2).RSA()
	p.ssm.TrustIssuer(issuerURL, &p.issuer.Key.PublicKey, stsAudience)
	if p.agent != nil {
		p.agent.SetKey(&p.issuer.Key.PublicKey)
	}
	p.rotateToken()
}

// exchanges is how often a token was exchanged for credentials, or refused.
func (p *pod) exchanges() int {
	n := 0
	for _, call := range p.ssm.Calls() {
		if strings.HasPrefix(call.Action, "AssumeRole") {
			n++
		}
	}
	return n
}

// secretless fails the test for a token, or for credentials, in the output of a process.
func (p *pod) secretless(processes ...*process) {
	p.t.Helper()
	var secrets []string
	for _, token := range p.tokens {
		secrets = append(secrets, token)
		parts := strings.Split(token, ".")
		secrets = append(secrets, parts[len(parts)-1])
	}
	secrets = append(secrets, p.ssm.Secrets()...)
	for _, q := range processes {
		for name, text := range q.outputs() {
			for _, secret := range secrets {
				if len(secret) > 0 && strings.Contains(text, secret) {
					p.t.Errorf("%s: a token or credentials in its %s:\n%s", q, name, text)
				}
			}
		}
	}
}

func eachWay(t *testing.T, newTask func(*testing.T) *task, test func(*testing.T, *pod)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, way(t, newTask(t)))
		})
	}
}

// The kubelet replaces the token, and the old one is refused afterwards. The credentials end a little later, and only the
// new token gives new ones.
func TestToken_IsReadAgainWhenCredentialsEnd(t *testing.T) {
	t.Parallel()
	eachWay(t, newTask, func(t *testing.T, p *pod) {
		p.ssm.SetSessionLifetime(5*time.Minute + 2*time.Second) // they are renewed five minutes early
		run := p.run()
		run.follows(fingerprint(t, oldFingerprint))
		first := p.exchanges()
		p.refuseOldTokens()
		p.ssm.Put(keyParameter, content(t, nextKey))
		run.eventually("new credentials", func() bool {
			run.refresh()
			return p.exchanges() > first
		})
		run.follows(fingerprint(t, nextFingerprint))
		if n := run.count("refresh failed"); n != 0 {
			t.Errorf("%d refreshes failed:\n%s", n, &run.stderr)
		}
		run.end(syscall.SIGTERM)
		p.secretless(run)
	})
}

// AWS may end a session before the time that it said.
func TestCredentials_AreRenewedWhenAWSTakesThemForExpired(t *testing.T) {
	t.Parallel()
	eachWay(t, newTask, func(t *testing.T, p *pod) {
		run := p.run()
		first := p.exchanges()
		p.refuseOldTokens()
		p.ssm.ExpireSessions()
		run.refresh()
		run.eventually("a refresh that failed", func() bool { return run.count("refresh failed") > 0 })
		if l := run.last("refresh failed"); l.Class != keyfile.ClassCredentials || !strings.Contains(l.Error, "ExpiredTokenException") {
			t.Errorf("the log says %+v", l)
		}
		p.ssm.Put(keyParameter, content(t, nextKey))
		run.refresh()
		run.follows(fingerprint(t, nextFingerprint))
		if n := p.exchanges(); n != first+1 {
			t.Errorf("%d exchanges after %d", n, first)
		}
		run.end(syscall.SIGTERM)
		p.secretless(run)
	})
}

// A refusal is something that is wrong in the cluster or in IAM, and what the sidecar has to say about it.
type refusal struct {
	name string
	way  func(*testing.T, *task) *pod
	// spoil may change the settings only if it is not of a running sidecar.
	spoil   func(*pod)
	says    []string
	running bool
}

func ofToken(change func(*podtoken.Token)) func(*pod) {
	return func(p *pod) { p.rotateToken(change) }
}

func expired(t *podtoken.Token) { t.Expires = time.Now().Add(-time.Minute) }

func (p *pod) answer(status int, code, message string) {
	p.ssm.Intercept(func(c localssm.Call) *localssm.Fault {
		if !strings.HasPrefix(c.Action, "AssumeRole") {
			return nil
		}
		return &localssm.Fault{Status: status, Code: code, Message: message}
	})
}

var refusals = []refusal{
	{"an expired token", byWebIdentity, ofToken(expired), []string{"ExpiredTokenException: Token expired: ", "projected volume"}, true},
	{"a trust policy for another service account", byWebIdentity, func(p *pod) {
		p.ssm.PutRole("app", localssm.Trust{Issuer: issuerURL, Subject: awaySubject, Audience: stsAudience})
	}, []string{"AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity", "eks.amazonaws.com/role-arn", "trust policy", ":sub " + podSubject}, true},
	{"a cluster that IAM does not know", byWebIdentity, func(p *pod) {
		p.issuer.URL += "0"
		p.rotateToken()
	}, []string{"InvalidIdentityToken: No OpenIDConnect provider found in your account", "create the cluster's OIDC provider in IAM"}, true},
	{"another audience", byWebIdentity, ofToken(func(t *podtoken.Token) { t.Audience = "vault" }), []string{"Incorrect token audience", "that audience"}, true},
	{"a token file that is missing", byWebIdentity, func(p *pod) { p.must(os.Remove(p.volume.Path())) },
		[]string{"the token file in AWS_WEB_IDENTITY_TOKEN_FILE: no such file or directory", "annotate the service account with eks.amazonaws.com/role-arn"}, true},
	{"a token file that may not be read", byWebIdentity, func(p *pod) { p.must(os.Chmod(p.volume.Path(), 0o600)) },
		[]string{"the token file in AWS_WEB_IDENTITY_TOKEN_FILE: permission denied", "set securityContext.fsGroup, or the same runAsUser for all containers, in the pod's spec, so that uid 65532"}, true},
	{"an empty token file", byWebIdentity, func(p *pod) { p.must(p.volume.Write("")) }, []string{"AWS_WEB_IDENTITY_TOKEN_FILE: it is empty"}, true},
	{"a file of any length", byWebIdentity, func(p *pod) { p.must(p.volume.Write(strings.Repeat(p.tokens[0], 100))) }, []string{"it is longer than a token"}, true},
	{"a device", byWebIdentity, func(p *pod) { p.env[webIdentity] = "/dev/zero" }, []string{"it is not a regular file"}, false},
	{"a directory", byWebIdentity, func(p *pod) { p.env[webIdentity] = filepath.Dir(p.volume.Path()) }, []string{"it is not a regular file"}, false},
	{"a role of no such form", byWebIdentity, func(p *pod) { p.env["AWS_ROLE_ARN"] = "arn:aws:iam::123456789012:user/" + awsSecret },
		[]string{"ValidationError", "correct eks.amazonaws.com/role-arn"}, false},
	{"an STS that repeats the token", byWebIdentity, func(p *pod) {
		p.answer(400, "InvalidIdentityToken", "The token "+p.tokens[0]+" is not valid")
	}, []string{"InvalidIdentityToken: The token ... is not valid"}, true},
	{"an STS that repeats a part of the request", byWebIdentity, func(p *pod) {
		p.answer(400, "ValidationError", "1 validation error detected: Value '"+p.tokens[0]+"' at 'webIdentityToken' failed to satisfy constraint")
	}, []string{"ValidationError of webIdentityToken"}, true},
	{"an STS that nothing reaches", byWebIdentity, func(p *pod) { p.env["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:1" },
		[]string{"connection refused", "let the pod reach 127.0.0.1:1", "NetworkPolicy"}, false},
	{"an STS that fails", byWebIdentity, func(p *pod) { p.answer(503, "ServiceUnavailable", "") }, []string{"ServiceUnavailable", "the sidecar tries again"}, true},

	{"an expired token for the agent", byPodIdentity, ofToken(expired), []string{"status 400", "projected volume with audience pods.eks.amazonaws.com"}, true},
	{"no association", byPodIdentity, func(p *pod) { p.agent.Associate(podSubject, "") },
		[]string{"status 404, ResourceNotFoundException", "create a Pod Identity association of the pod's service account app/snowkey"}, true},
	{"a role that does not trust EKS", byPodIdentity, func(p *pod) { p.ssm.PutRole("app", localssm.Trust{}) },
		[]string{"AccessDeniedException", "pods.eks.amazonaws.com", "sts:TagSession"}, true},
	{"a token for another audience", byPodIdentity, ofToken(func(t *podtoken.Token) { t.Audience = stsAudience }), []string{"InvalidTokenException", "audience pods.eks.amazonaws.com"}, true},
	{"a token file for the agent that is missing", byPodIdentity, func(p *pod) { p.must(os.Remove(p.volume.Path())) },
		[]string{"the token file in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: no such file or directory", "create a Pod Identity association"}, true},
	{"a token file for the agent that may not be read", byPodIdentity, func(p *pod) { p.must(os.Chmod(p.volume.Path(), 0o600)) },
		[]string{"the token file in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: permission denied", "set securityContext.fsGroup, or the same runAsUser for all containers, in the pod's spec, so that uid 65532"}, true},
	{"a token file of two lines", byPodIdentity, func(p *pod) { p.must(p.volume.Write(p.tokens[0] + "\n" + p.tokens[0])) }, []string{"it has a newline", "write the token alone"}, true},
	{"an agent that fails", byPodIdentity, func(p *pod) { p.answer(500, "InternalServerException", "") },
		[]string{"status 500, InternalServerException", "see the log of eks-pod-identity-agent"}, true},
	{"an agent that throttles", byPodIdentity, func(p *pod) { p.answer(429, "ThrottlingException", "") }, []string{"status 429, ThrottlingException"}, true},
	{"an agent that repeats the token", byPodIdentity, func(p *pod) { p.answer(400, p.tokens[0], p.tokens[0]) }, []string{"status 400"}, true},
	{"another path of the agent", byPodIdentity, func(p *pod) { p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] += "/more" }, []string{"status 404", "/v1/credentials"}, false},
	{"no agent", byPodIdentity, func(p *pod) { p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1:1/v1/credentials" },
		[]string{"connection refused", "install the add-on eks-pod-identity-agent", "127.0.0.1:1", "Fargate has no agent"}, false},
}

// unprivilegedTask has a user to whom modes matter.
func unprivilegedTask(t *testing.T) *task {
	t.Helper()
	k := newTask(t)
	k.unprivileged()
	if os.Getuid() != 0 {
		t.Skip("the token's owner has to be another user: only root can start a process of one")
	}
	k.env["AWS_MAX_ATTEMPTS"] = "1"
	return k
}

func TestOnce_SaysWhatToChangeForAToken(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p := r.way(t, unprivilegedTask(t))
			r.spoil(p)
			once := p.do("once")
			once.want(exitFailed, append(r.says, "no AWS credentials")...)
			status := p.status()
			if status.LastError != nil && status.LastError.Class != keyfile.ClassCredentials {
				t.Errorf("class %s", status.LastError.Class)
			}
			p.secretless(once)
		})
	}
}

func TestRun_KeepsTheKeyWithoutCredentials(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		if !r.running {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p := r.way(t, unprivilegedTask(t))
			run := p.run()
			before := p.snapshot()
			r.spoil(p)
			p.ssm.ExpireSessions()
			run.eventually("a refresh without credentials", func() bool { // SSM takes the present ones for expired first
				run.refresh()
				return strings.Contains(run.last("refresh failed").Error, "no AWS credentials")
			})
			l := run.last("refresh failed")
			for _, words := range r.says {
				if l.Class != keyfile.ClassCredentials || !strings.Contains(l.Error, words) {
					t.Errorf("class %s, no %q in %s", l.Class, words, l.Error)
				}
			}
			if status := p.status(); status.LastError == nil || status.LastError.Class != keyfile.ClassCredentials || status.Fingerprint == "" {
				t.Errorf("status %+v", status)
			}
			for name, file := range p.snapshot() {
				if file.content != before[name].content {
					t.Errorf("%s is another one", name)
				}
			}
			p.ssm.Intercept(nil)
			run.end(syscall.SIGTERM)
			p.secretless(run)
		})
	}
}

// A NetworkPolicy drops packets: nothing answers, and nothing is refused.
func TestOnce_EndsWhenNothingAnswersAToken(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // whose connections nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	url := "http://" + silent.Addr().String()
	for name, says := range map[string]string{"web identity": "NetworkPolicy, and a NAT gateway or a VPC endpoint for sts", "Pod Identity": "let the pod's NetworkPolicy reach"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := ways[name](t, newTask(t))
			p.env[beSidecar], p.env["AWS_MAX_ATTEMPTS"] = "2s", "1"
			p.env["AWS_ENDPOINT_URL_STS"], p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url, url+"/v1/credentials"
			once := p.do("once")
			once.want(exitFailed, "no AWS credentials", says, strings.TrimPrefix(url, "http://"))
			p.secretless(once)
		})
	}
}

func TestToken_WithoutARole(t *testing.T) {
	t.Parallel()
	p := byWebIdentity(t, newTask(t))
	delete(p.env, "AWS_ROLE_ARN")
	once := p.do("once")
	once.want(exitUsage, "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not", "annotate the service account with eks.amazonaws.com/role-arn")
	p.secretless(once)
}

// Without AWS_REGION the Region is that of the parameter's ARN, and STS is called there, too.
func TestToken_IsExchangedInTheRegionOfTheARN(t *testing.T) {
	t.Parallel()
	p := byWebIdentity(t, newTask(t))
	delete(p.env, "AWS_REGION")
	p.env["SNOWKEY_KEY_PARAMETER"], p.env["SNOWKEY_PASSPHRASE_PARAMETER"] = arnOf(keyParameter), arnOf(passParameter)
	p.do("once").want(exitDone)
}

// A signed call of STS's global endpoint would have another Region, and AWS's own SDK for Go never calls it.
func TestToken_IsExchangedAtTheRegionalEndpoint(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "regional", "legacy"} {
		p := byWebIdentity(t, newTask(t))
		var host atomic.Value
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host.Store(r.Host)
			w.WriteHeader(http.StatusForbidden)
		}))
		t.Cleanup(proxy.Close)
		delete(p.env, "AWS_ENDPOINT_URL_STS")
		p.env["AWS_REGION"], p.env["AWS_STS_REGIONAL_ENDPOINTS"], p.env["HTTPS_PROXY"] = "eu-west-1", mode, proxy.URL
		p.env["AWS_MAX_ATTEMPTS"] = "1"
		once := p.do("once")
		once.want(exitFailed, "no AWS credentials", "check the proxy in HTTPS_PROXY, through which sts.eu-west-1.amazonaws.com is called")
		if got := host.Load(); got != "sts.eu-west-1.amazonaws.com:443" {
			t.Errorf("%q: the proxy got %v", mode, got)
		}
		p.secretless(once)
	}
}

func TestToken_IsForEachCommand(t *testing.T) {
	t.Parallel()
	t.Run("keygen", func(t *testing.T) {
		t.Parallel()
		eachWay(t, newKeygen, func(t *testing.T, p *pod) {
			made := p.keygen("--put", "--generate-passphrase")
			made.want(exitDone)
			p.secretless(made)
			p.rotateToken(expired)
			failed := p.keygen("--put", "--overwrite", "--generate-passphrase")
			failed.want(exitFailed, "no AWS credentials", "projected volume")
			p.secretless(failed)
		})
	})
	t.Run("rotate", func(t *testing.T) {
		t.Parallel()
		for name, way := range ways {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k, account := rotating(t)
				p := way(t, k)
				p.ssm.SetSessionLifetime(5*time.Minute + 500*time.Millisecond) // they end while it waits
				rotated := p.rotate()
				rotated.want(exitDone)
				p.inUse(account)
				if n := p.exchanges(); n < 2 {
					t.Errorf("%d exchanges", n)
				}
				p.secretless(rotated)
			})
		}
	})
	t.Run("exec", func(t *testing.T) {
		t.Parallel()
		eachWay(t, newTask, func(t *testing.T, p *pod) {
			run := p.exec(nil, sh(`[ -s "$SNOWKEY_DIR/rsa_key.der" ] && [ -s "${AWS_WEB_IDENTITY_TOKEN_FILE:-$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE}" ] && env`))
			run.wait()
			run.want(exitDone)
			for name, value := range p.env {
				if strings.HasPrefix(name, "AWS_") && !slices.Contains(strings.Split(run.stdout.String(), "\n"), name+"="+value) {
					t.Errorf("CMD lacks %s:\n%s", name, &run.stdout)
				}
			}
			p.secretless(run)
		})
	})
}

func TestDoctor_SaysHowAPodGetsItsCredentials(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web identity": "ok    aws credentials: arn:aws:sts::123456789012:assumed-role/app/snowkey (account 123456789012), the role of the pod's service account, by web identity, role arn:aws:iam::123456789012:role/app",
		"Pod Identity": "(account 123456789012), the role of the pod's service account, by EKS Pod Identity",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, _ := examined(t)
			p := ways[name](t, k)
			fine := p.do("doctor")
			fine.want(exitDone, want)
			p.rotateToken(expired)
			bad := p.do("doctor")
			bad.want(exitFailed, "fail  aws credentials: none: ", "projected volume")
			p.secretless(fine, bad)
		})
	}
}
