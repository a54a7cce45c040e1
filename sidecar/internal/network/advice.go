package network

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
)

// trustAdvice is the one sentence about authorities, for SSM and Snowflake alike.
const trustAdvice = "if a proxy opens TLS, or the endpoint is your own, name the PEM file with its CA certificate in AWS_CA_BUNDLE or SSL_CERT_FILE, " +
	"which SSM and Snowflake both use, or name the host in NO_PROXY; otherwise find out who answers there"

const expiredAdvice = "synchronise this machine's clock; if it is right, the owner of that host has to renew its certificate"

// Advice is about a request that failed because of the settings of proxy or authorities, "" for any other failure. It
// cannot tell an error of the host from one of the proxy in between, so it names the proxy first.
func Advice(err error, to *url.URL) string {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return trustAdvice
	}
	if invalid, found := errors.AsType[x509.CertificateInvalidError](err); found && invalid.Reason == x509.Expired {
		return expiredAdvice
	}
	if answer, found := errors.AsType[*ProxyAnswer](err); to == nil || found && answer.NoSuchHost {
		return ""
	}
	if proxy, proxyErr := Proxy(&http.Request{URL: to}); proxy == nil && proxyErr == nil {
		return ""
	}
	return "check the proxy in " + proxyVariable(to) + ", through which " + to.Host + " is called, or name the host in NO_PROXY"
}

// proxyVariable is the variable that names the proxy to an address.
func proxyVariable(to *url.URL) string {
	pair := proxyVariables[to.Scheme]
	if os.Getenv(pair[0]) == "" && os.Getenv(pair[1]) != "" {
		return pair[1]
	}
	return pair[0]
}
