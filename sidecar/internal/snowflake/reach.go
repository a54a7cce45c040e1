package snowflake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/network"
)

// Reach waits for an answer, without a login, and returns its time by Snowflake's clock, zero if it has none. For an answer
// that is plainly not Snowflake's it returns an error beside the time.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The state of a statement: without a login Snowflake answers 401, where an account has this host.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(request{path: statementsPath + "/" + requestID()}).String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	r, err := c.exchange(req)
	if err != nil {
		return time.Time{}, err
	}
	if r.foreign() {
		return r.date, c.failed(nil, r)
	}
	return r.date, nil
}

// Address is where the client sends its requests, such as https://ACCOUNT.snowflakecomputing.com.
func (c *Client) Address() string { return c.url(request{}).String() }

// isOutageError reports whether err is one of an outage: no connection, none in time, or one that ended. Any other
// error comes from a host that is there, or from the settings.
func isOutageError(err error) bool {
	if dns, found := errors.AsType[*net.DNSError](err); found {
		return !dns.IsNotFound
	}
	if answer, found := errors.AsType[*network.ProxyAnswer](err); found {
		return answer.IsOutage()
	}
	if e, found := errors.AsType[net.Error](err); found && e.Timeout() {
		return true
	}
	number, _ := errors.AsType[syscall.Errno](err)
	refused := slices.Contains(outageErrnos, number)
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), closedIdle)
	return refused || hungUp || errors.Is(err, context.Canceled)
}

// outageErrnos are the system's errors about a connection and its way. Others are about this machine or the address.
var outageErrnos = []syscall.Errno{
	syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
	syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ENETRESET,
	// Windows never returns these but WSAECONNREFUSED and the like, which no other system has.
	10061, 10054, 10053, 10060, 10065, 10064, 10051, 10050, 10052,
}

// closedIdle is net/http's error, which has no type, about a server that closes before the request is written.
const closedIdle = "server closed idle connection"

// isOutage reports whether an answer is one of an outage, or of a network policy.
func (r *reply) isOutage() bool { return r.transient() || r.answer.Code == networkPolicy }

// wrongHost reports whether err says that the host, or what listens at its port, is not Snowflake's, and that no request
// was sent. The host of a proxy is another matter.
func wrongHost(err error) bool {
	if op, found := errors.AsType[*net.OpError](err); found && op.Op == "proxyconnect" {
		return false
	}
	dns, found := errors.AsType[*net.DNSError](err)
	_, otherName := errors.AsType[x509.HostnameError](err)
	noTLS, first := errors.AsType[tls.RecordHeaderError](err)
	first = first && noTLS.Conn != nil // otherwise a later record, perhaps after the request
	return found && dns.IsNotFound || otherName || first
}

// sentNothing reports whether the proxy refused, or the certificate was not trusted, before the request was sent.
func sentNothing(err error) bool {
	op, found := errors.AsType[*net.OpError](err)
	_, answered := errors.AsType[*network.ProxyAnswer](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return found && op.Op == "proxyconnect" || answered || untrusted
}

// foreign reports whether an answer to a request without a login is of a server that knows nothing of the account, or is
// not Snowflake at all.
func (r *reply) foreign() bool {
	return r.status != http.StatusUnauthorized && r.answer.Code == "" && !r.transient()
}
