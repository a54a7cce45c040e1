//go:build faults

package faults

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/internal/tools/podtoken"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var credentialsScenarios = []scenario{
	{
		fault: "the credentials endpoint refuses connections", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 10 * time.Second, run: credentialsDown(way{refuse: true}),
	},
	{
		fault: "the credentials endpoint answers garbage", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 10 * time.Second, run: credentialsDown(way{garbage: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nnone today"}),
	},
	{
		fault: "the credentials endpoint accepts connections and says nothing", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 45 * time.Second, run: credentialsDown(way{silent: true}),
	},
	{
		fault: "credentials expire, and the endpoint has new ones", operator: "nothing: the sidecar renews them in time",
		within: 10 * time.Second, run: credentialsExpire,
	},
	{
		fault: "SSM says that the credentials have expired", class: keyfile.ClassCredentials, says: "ExpiredTokenException",
		within: 10 * time.Second, breaks: func(f *fixture) func() {
			f.expired.Store(true)
			return func() { f.expired.Store(false) }
		},
	},
	{
		fault: "a pod's service account token expires, and the kubelet writes no other", class: keyfile.ClassCredentials, says: "STS refused the token",
		within: 10 * time.Second, run: tokenBroken(func(p *pod) func() {
			p.write(time.Now().Add(-time.Minute))
			return func() { p.write(time.Now().Add(time.Hour)) }
		}),
	},
	{
		fault: "a pod's role stops trusting its service account", class: keyfile.ClassCredentials, says: "Not authorized to perform sts:AssumeRoleWithWebIdentity",
		within: 10 * time.Second, run: tokenBroken(func(p *pod) func() {
			p.ssm.PutRole(podRole, localssm.Trust{})
			return p.trust
		}),
	},
	{
		fault: "a NetworkPolicy cuts a pod off from STS", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 45 * time.Second, run: tokenBroken(func(p *pod) func() {
			p.toSTS.set(way{silent: true})
			return p.toSTS.mend
		}),
	},
	{
		fault: "the kubelet replaces a pod's service account token, and STS refuses the old one", operator: "nothing: the sidecar reads the new one",
		within: 10 * time.Second, run: tokenReplaced,
	},
}

// asTask has the sidecar take its credentials from the endpoint that ECS gives a task. The SDK asks for others
// five minutes before they expire, so that these hold for three seconds.
func (f *fixture) asTask() (way *proxy, issued *atomic.Int64) {
	issued = new(atomic.Int64)
	way = newProxy(f.t, testenv.Serve(f.t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		issued.Add(1)
		_ = json.NewEncoder(rw).Encode(f.ssm.IssueCredentials("app-task", "task", 5*time.Minute+3*time.Second))
	})).Host)
	delete(f.sidecarEnv, "AWS_ACCESS_KEY_ID")
	delete(f.sidecarEnv, "AWS_SECRET_ACCESS_KEY")
	f.sidecarEnv["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://" + way.address + "/credentials"
	return way, issued
}

func credentialsDown(broken way) func(*fixture, scenario) time.Duration {
	return func(f *fixture, s scenario) time.Duration {
		endpoint, _ := f.asTask()
		s.breaks = func(f *fixture) func() {
			endpoint.set(broken)
			// Looks go on for as long as the credentials hold: only then is the next key stored.
			testenv.Eventually(f.t, "credentials are asked for again", func() bool { return f.sidecar.Said(0, "refresh failed") })
			return endpoint.mend
		}
		return outage(f, s)
	}
}

func credentialsExpire(f *fixture, s scenario) time.Duration {
	_, issued := f.asTask()
	f.begin()
	since := f.sidecar.Mark()
	before := issued.Load()
	testenv.Eventually(f.t, "new credentials are asked for twice", func() bool { return issued.Load() >= before+2 })
	queries := f.consumer.Mark()
	f.rotate()
	took := f.published()
	f.adopted(queries)
	f.quiet(since)
	return took
}

const (
	podIssuer  = "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF"
	podSubject = "system:serviceaccount:app:snowkey"
	podRole    = "app"
)

// A pod is a fixture whose sidecar has its credentials by web identity.
type pod struct {
	*fixture
	issuer podtoken.Issuer
	volume *podtoken.Volume
	toSTS  *proxy
}

func (f *fixture) asPod() *pod {
	f.t.Helper()
	p := &pod{fixture: f, issuer: podtoken.Issuer{URL: podIssuer, Key: key(1).RSA()}, volume: podtoken.NewVolume(f.t.TempDir(), "token", 0o644)}
	p.toSTS = newProxy(f.t, testenv.Serve(f.t, f.ssm).Host)
	p.trust()
	p.write(time.Now().Add(time.Hour))
	delete(f.sidecarEnv, "AWS_ACCESS_KEY_ID")
	delete(f.sidecarEnv, "AWS_SECRET_ACCESS_KEY")
	f.sidecarEnv["AWS_WEB_IDENTITY_TOKEN_FILE"] = p.volume.Path()
	f.sidecarEnv["AWS_ROLE_ARN"] = f.ssm.PutRole(podRole, localssm.Trust{Issuer: podIssuer, Subject: podSubject, Audience: "sts.amazonaws.com"})
	f.sidecarEnv["AWS_ENDPOINT_URL_STS"] = "http://" + p.toSTS.address
	return p
}

// trust makes the cluster's tokens, of its present key, good for the role.
func (p *pod) trust() {
	p.ssm.TrustIssuer(podIssuer, &p.issuer.Key.PublicKey, "sts.amazonaws.com")
	p.ssm.PutRole(podRole, localssm.Trust{Issuer: podIssuer, Subject: podSubject, Audience: "sts.amazonaws.com"})
}

// write replaces the token, as the kubelet does.
func (p *pod) write(expires time.Time) {
	p.t.Helper()
	token, err := p.issuer.Sign(podtoken.Token{Subject: podSubject, Audience: "sts.amazonaws.com", Issued: time.Now().Add(-time.Hour), Expires: expires})
	if err == nil {
		err = p.volume.Write(token)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func tokenBroken(breaks func(*pod) (heal func())) func(*fixture, scenario) time.Duration {
	return func(f *fixture, s scenario) time.Duration {
		p := f.asPod()
		s.breaks = func(*fixture) func() {
			heal := breaks(p)
			f.ssm.ExpireSessions()
			return heal
		}
		return outage(f, s)
	}
}

// tokenReplaced has credentials that are renewed after three seconds, since the sidecar renews them five minutes early.
func tokenReplaced(f *fixture, _ scenario) time.Duration {
	p := f.asPod()
	f.ssm.SetSessionLifetime(5*time.Minute + 3*time.Second)
	f.begin()
	since := f.sidecar.Mark()
	p.issuer.Key = key(2).RSA()
	p.trust()
	p.write(time.Now().Add(time.Hour))
	exchanges := func() (n int) {
		for _, call := range f.ssm.Calls() {
			if call.Action == "AssumeRoleWithWebIdentity" {
				n++
			}
		}
		return n
	}
	before := exchanges()
	testenv.Eventually(f.t, "new credentials are asked for", func() bool { return exchanges() > before })
	queries := f.consumer.Mark()
	f.rotate()
	took := f.published()
	f.adopted(queries)
	f.quiet(since)
	return took
}
