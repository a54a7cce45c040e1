// Package network is what the clients of AWS and of Snowflake have in common: the way through a proxy, and the
// authorities that they trust.
//
// It never sends a proxy what is for this machine or its host, such as the request for a task's credentials. Its errors
// never repeat a setting.
package network

import (
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

// proxyVariables are those that net/http reads, by the scheme of the address. Of each pair the first that is set wins.
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
				all = append(all, fmt.Errorf("%s is not the address of a proxy; write http://HOST:PORT, and percent-encode special characters of a password", variable))
			}
			break
		}
	}
	return all
}

// isProxy reports whether net/http can use the address, which may lack its scheme. An @ behind the host is that of a
// password with /, ? or #, whose first part would be the host.
func isProxy(written string) bool {
	if !strings.Contains(written, "://") {
		written = "http://" + written
	}
	u, err := url.Parse(written)
	return err == nil && u.Hostname() != "" && !strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
}
