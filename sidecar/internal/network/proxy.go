// Package network is what the clients of AWS and of Snowflake have in common: the way through a proxy, and the
// authorities that they trust.
//
// It never sends requests for this machine or its host to a proxy, such as the one for a task's credentials. Its errors
// never repeat a setting.
package network

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// Proxy is the proxy of the settings, nil for an address that no proxy reaches: of this machine, or link-local, such as
// those of a task's credentials and of an instance's metadata.
func Proxy(r *http.Request) (*url.URL, error) {
	if isLocal(r.URL.Hostname()) {
		return nil, nil //nolint:nilnil // how net/http has it
	}
	return http.ProxyFromEnvironment(r)
}

// ofInstance are the IPv6 addresses of AWS on an instance or in a pod, fd00:ec2::23 and fd00:ec2::254 among them.
var ofInstance = netip.MustParsePrefix("fd00:ec2::/32")

func isLocal(host string) bool {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	address = address.Unmap().WithZone("")
	return address.IsLinkLocalUnicast() || address.IsLoopback() || ofInstance.Contains(address)
}

// A ProxyAnswer is the answer of a proxy that did not connect to a host. It has nothing of the proxy's address.
type ProxyAnswer struct {
	Status     int
	NoSuchHost bool // the proxy says that it did not find the host
}

func (a *ProxyAnswer) Error() string {
	text := fmt.Sprintf("the proxy answered %d %s", a.Status, http.StatusText(a.Status))
	if a.NoSuchHost {
		text += ", since it did not find the host"
	}
	return text
}

// IsOutage reports whether the proxy was too busy, or did not get through to the host. Otherwise it refuses, or knows no
// such host: Squid and tinyproxy answer that with 500.
func (a *ProxyAnswer) IsOutage() bool {
	return !a.NoSuchHost && IsTransient(a.Status)
}

// IsTransient reports whether the same request may soon get another status. 500 is not among them: its meaning depends
// on the server that answers.
func IsTransient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// CheckProxyAnswer is for OnProxyConnectResponse of an [http.Transport]: its own error has only the status's text. How a
// proxy says that there is no such host is in RFC 9209, and in Squid's own header.
func CheckProxyAnswer(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	status := strings.Join(answer.Header.Values("Proxy-Status"), ",")
	noSuchHost := strings.Contains(status, "error=dns_error") && strings.Contains(status, "NXDOMAIN") ||
		strings.Contains(status, "error=destination_not_found") ||
		strings.HasPrefix(answer.Header.Get("X-Squid-Error"), "ERR_DNS_FAIL")
	return &ProxyAnswer{Status: answer.StatusCode, NoSuchHost: noSuchHost}
}

// proxyVariables are the variables that net/http reads, by the scheme of the address. The first of each pair that is
// set wins.
var proxyVariables = map[string][2]string{"https": {"HTTPS_PROXY", "https_proxy"}, "http": {"HTTP_PROXY", "http_proxy"}}

func checkProxies() []error {
	var all []error
	for _, scheme := range []string{"https", "http"} {
		for _, variable := range proxyVariables[scheme] {
			value := os.Getenv(variable)
			if value == "" {
				continue
			}
			if !isProxy(value) {
				all = append(all, fmt.Errorf("%s is not the address of a proxy%s; write http://HOST:PORT, and percent-encode special characters of a password",
					variable, surroundings(value)))
			}
			break
		}
	}
	if err := checkExceptions(); err != nil {
		all = append(all, err)
	}
	return all
}

// checkExceptions refuses quotation marks in NO_PROXY or no_proxy, if there is a proxy. The first of the two that is
// set counts.
func checkExceptions() error {
	proxies := false
	for _, pair := range proxyVariables {
		proxies = proxies || os.Getenv(pair[0]) != "" || os.Getenv(pair[1]) != ""
	}
	for _, variable := range []string{"NO_PROXY", "no_proxy"} {
		value := os.Getenv(variable)
		if proxies && strings.ContainsAny(value, quotes) {
			return fmt.Errorf("%s has quotation marks, which become a part of its hosts; take them off: docker and ECS keep those of an env file", variable)
		}
		if value != "" {
			break
		}
	}
	return nil
}

const quotes = "\"'`“”‘’"

// surroundings says what an env file has left around a value, "" if nothing.
func surroundings(value string) string {
	if strings.Trim(value, quotes+" \t\r\n\u00a0") == value {
		return ""
	}
	return ": it has quotation marks, a space or a carriage return around it, which docker and ECS keep of an env file"
}

// isProxy reports whether net/http can use the address, which may lack its scheme. An @ behind the host belongs to a
// password with /, ? or #: net/http would take the password's first part for the host.
func isProxy(written string) bool {
	if surroundings(written) != "" {
		return false
	}
	if !strings.Contains(written, "://") {
		written = "http://" + written
	}
	u, err := url.Parse(written)
	return err == nil && u.Hostname() != "" && !strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
}
