//go:build faults

package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/internal/local/localssm"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var ssmScenarios = []scenario{
	{
		fault: "SSM refuses connections", class: keyfile.ClassNetwork, says: "connection refused",
		within: 10 * time.Second, breaks: onTheWayToSSM(way{refuse: true}),
	},
	{
		fault: "SSM resets connections", class: keyfile.ClassNetwork, says: "connection reset by peer",
		within: 10 * time.Second, breaks: onTheWayToSSM(way{reset: true}),
	},
	{
		fault: "SSM accepts connections and says nothing", class: keyfile.ClassNetwork, says: "did not answer within 20s",
		within: 30 * time.Second, breaks: onTheWayToSSM(way{silent: true}),
	},
	{
		fault: "SSM takes three seconds for an answer", operator: "nothing: the refresh takes longer",
		within: 20 * time.Second, run: slow(func(f *fixture) *proxy { return f.toSSM }),
	},
	{
		fault: "SSM's answer is cut after its header", class: keyfile.ClassNetwork, says: "gave an answer that cannot be read",
		within: 10 * time.Second, breaks: onTheWayToSSM(way{cut: 200}),
	},
	{
		fault: "SSM's answer is not HTTP", class: keyfile.ClassNetwork, says: "malformed HTTP",
		within: 10 * time.Second, breaks: onTheWayToSSM(way{garbage: "\x00\xff\x16\x03 this is not HTTP\r\n\r\n"}),
	},
	{
		fault: "SSM's answer has no end", class: keyfile.ClassNetwork, says: "the most that this request allows",
		within: 10 * time.Second,
		breaks: onTheWayToSSM(way{garbage: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"Parameters\":[{\"Name\":\"", endless: true}),
	},
	{
		fault: "a captive page answers for SSM", class: keyfile.ClassNetwork, says: "gave an answer that cannot be read",
		within: 10 * time.Second,
		breaks: onTheWayToSSM(way{garbage: "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<!DOCTYPE html><title>Log in</title>"}),
	},
	{
		fault: "a proxy answers 502 for SSM", class: keyfile.ClassNetwork, says: "502",
		within: 10 * time.Second,
		breaks: onTheWayToSSM(way{garbage: "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>no</html>"}),
	},
	{
		fault: "SSM throttles for 15 times the interval", class: keyfile.ClassThrottled, says: "ThrottlingException",
		within: 20 * time.Second, breaks: throttled,
	},
	{
		fault: "the name server fails", class: keyfile.ClassNetwork, says: "server misbehaving",
		within: 10 * time.Second, prepare: named("fails.test"), breaks: unnamed("fails.test", serverFails),
	},
	{
		fault: "the name server is silent", class: keyfile.ClassNetwork, says: "lookup silent.test",
		within: 30 * time.Second, prepare: named("silent.test"), breaks: unnamed("silent.test", serverSilent),
	},
	{
		fault: "SSM's certificate has expired", class: keyfile.ClassNetwork, says: "certificate has expired",
		within: 10 * time.Second, run: expiredCertificate,
	},
}

func onTheWayToSSM(broken way) func(*fixture) func() {
	return func(f *fixture) func() {
		f.toSSM.set(broken)
		return f.toSSM.mend
	}
}

// slow has answers of one endpoint take three seconds, for good.
func slow(of func(*fixture) *proxy) func(*fixture, scenario) time.Duration {
	return func(f *fixture, s scenario) time.Duration {
		const by = 3 * time.Second
		f.begin()
		since := f.sidecar.Mark()
		of(f).set(way{slow: by})
		f.rotate()
		queries := f.consumer.Mark()
		took := f.published()
		if took < by-100*time.Millisecond {
			f.t.Errorf("published after %v: nothing is slow", took)
		}
		f.adopted(queries)
		f.quiet(since)
		return took
	}
}

// throttled lasts for 15 intervals, which at the default interval is more than an hour.
func throttled(f *fixture) func() {
	f.ssm.Intercept(func(localssm.Call) *localssm.Fault {
		return &localssm.Fault{Code: "ThrottlingException", Message: "Rate exceeded"}
	})
	time.Sleep(15 * interval)
	return func() { f.ssm.ClearFaults() }
}

// named has the sidecar find SSM by a name.
func named(name string) func(*fixture) {
	return func(f *fixture) {
		resolve(f.t)
		_, port, _ := net.SplitHostPort(f.toSSM.address)
		f.sidecarEnv["AWS_ENDPOINT_URL_SSM"] = "http://" + net.JoinHostPort(name, port)
	}
}

func unnamed(name string, how nameAnswer) func(*fixture) func() {
	return func(f *fixture) func() {
		names.how.Store(name, how)
		f.toSSM.set(way{}) // a connection that is open needs no name
		return func() { names.how.Delete(name) }
	}
}

// expiredCertificate has an authority of its own, which the sidecar trusts.
func expiredCertificate(f *fixture, s scenario) time.Duration {
	const name = "ssm.test"
	named(name)(f)
	address, authority, expired := f.overTLS(name, f.front())
	f.toSSM.behind = address
	f.sidecarEnv["AWS_ENDPOINT_URL_SSM"] = strings.Replace(f.sidecarEnv["AWS_ENDPOINT_URL_SSM"], "http:", "https:", 1)
	f.sidecarEnv["SSL_CERT_FILE"] = authority
	s.breaks = func(f *fixture) func() {
		expired.Store(true)
		f.toSSM.set(way{})
		return func() { expired.Store(false) }
	}
	return outage(f, s)
}

// overTLS serves h with a certificate for the name that is valid until it is to have expired.
func (f *fixture) overTLS(name string, h http.Handler) (address, authority string, expired *atomic.Bool) {
	f.t.Helper()
	expired = new(atomic.Bool)
	authority, good, old := certificates(f, name)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if expired.Load() {
			return old, nil
		}
		return good, nil
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	f.t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String(), authority, expired
}

// certificates are one that is valid and one that was until an hour ago, and the file of who issued both.
func certificates(f *fixture, name string) (file string, good, old *tls.Certificate) {
	f.t.Helper()
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority for tests"}, NotBefore: now.Add(-24 * time.Hour),
		NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	sign := func(template *x509.Certificate) *tls.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, key)
		if err != nil {
			f.t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	leaf := func(until time.Time) *tls.Certificate {
		return sign(&x509.Certificate{
			SerialNumber: big.NewInt(until.UnixNano()), DNSNames: []string{name}, NotBefore: now.Add(-12 * time.Hour), NotAfter: until,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
	}
	file = filepath.Join(f.t.TempDir(), "authority.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(ca).Certificate[0]})
	if err := os.WriteFile(file, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return file, leaf(now.Add(time.Hour)), leaf(now.Add(-time.Hour))
}
