package ssm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snowkey/snowkey/sidecar/internal/network"
)

// The SDK reads an answer whatever its size, and builds all that is in it. So a bound follows from the request, and an
// answer beyond it fails before the SDK decodes it.

// A bound is the most that an answer may have.
type bound struct {
	bytes    int
	elements int // of JSON objects and lists
}

const (
	maxErrorBytes  = 16 << 10
	maxHeaderBytes = 64 << 10
	maxDepth       = 8 // of JSON; a page of a parameter's history has 5
)

// small is for credentials, and for everything else that has no value of a parameter in it.
var small = bound{bytes: 64 << 10, elements: 1000}

// JSON writes a byte as six characters at most, and SourceResult has the secret again, escaped once more.
const (
	parameterBytes = 6*advancedLimit + 12<<10
	secretBytes    = (6+7)*secretLimit + 12<<10
	secretLimit    = 64 << 10
)

// parametersBound is for the answer to GetParameters.
func parametersBound(names []Name) bound {
	b := bound{bytes: 4 << 10, elements: 32}
	for _, n := range names {
		b.elements += 32
		if n.SecretsManager() {
			b.bytes += secretBytes
		} else {
			b.bytes += parameterBytes
		}
	}
	return b
}

// historyBound is for one page of a parameter's history.
var historyBound = bound{bytes: 50*parameterBytes + 4<<10, elements: 50*64 + 32}

type boundKey struct{}

// withBound sets the bound for the answers to calls with this context. Others are small.
func withBound(ctx context.Context, b bound) context.Context {
	return context.WithValue(ctx, boundKey{}, b)
}

// observeCalls adds the bound to every call of a client, next to the network, and its address to every error.
func observeCalls(stack *middleware.Stack) error {
	if err := stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("snowkey:address", addressErrors), middleware.After); err != nil {
		return err
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("snowkey:bound", boundAnswer), middleware.After)
}

func boundAnswer(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error,
) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	answer, ok := out.RawResponse.(*smithyhttp.Response)
	if err != nil || !ok {
		return out, metadata, err
	}
	limit, ok := ctx.Value(boundKey{}).(bound)
	if !ok {
		limit = small
	}
	switch {
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return out, metadata, errRedirect
	case answer.StatusCode >= 400:
		limit.bytes = min(limit.bytes, maxErrorBytes)
	}
	answer.Body = &boundedBody{ReadCloser: answer.Body, bound: limit}
	return out, metadata, nil
}

// A boundedBody fails when there is more than its bound. It scans JSON without building anything.
type boundedBody struct {
	io.ReadCloser
	bound bound

	read, elements, depth int
	inString, escaped     bool
	err                   error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.bound.bytes-b.read+1)])
	b.read += n
	if b.err = b.check(p[:n]); b.err != nil {
		return 0, b.err
	}
	return n, err
}

func (b *boundedBody) check(part []byte) error {
	if b.read > b.bound.bytes {
		return fmt.Errorf("the answer is longer than %d bytes, the most that this request allows", b.bound.bytes)
	}
	for _, c := range part {
		b.scan(c)
		if b.elements > b.bound.elements || b.depth > maxDepth {
			return errors.New("the answer has more elements, or elements nested deeper, than this request allows")
		}
	}
	return nil
}

func (b *boundedBody) scan(c byte) {
	switch {
	case b.escaped:
		b.escaped = false
	case b.inString:
		b.escaped = c == '\\'
		b.inString = c != '"'
	case c == '"':
		b.inString = true
	case c == '[', c == '{':
		b.depth++
		b.elements++
	case c == ']', c == '}':
		b.depth--
	case c == ',':
		b.elements++
	}
}

// errRedirect: a request has a signature, and its body may have a passphrase.
var errRedirect = errors.New("the answer is a redirect, which is not followed")

// httpClient is the SDK's own, for headers of a bounded size, and without redirects.
func httpClient(timeout time.Duration) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(timeout).WithTransportOptions(func(t *http.Transport) {
		t.MaxResponseHeaderBytes = maxHeaderBytes
		t.TLSClientConfig.RootCAs = network.Roots()
		t.OnProxyConnectResponse = network.CheckProxyAnswer
		// The SDK's client follows two kinds of redirects, and has no setting against it. net/http chooses the proxy
		// before it sends a request, and a request that follows a redirect has the answer that redirected it.
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.Response != nil {
				return nil, errRedirect
			}
			return network.Proxy(r)
		}
	})
}

// withoutWriteTo hides the WriteTo of the SDK's body. The SDK closes the body as soon as there is an answer. net/http
// may only then check whether there is more to send: it would take WriteTo's error about a closed body for a failure,
// and hang up in the middle of the answer.
type withoutWriteTo struct{ aws.HTTPClient }

func (w withoutWriteTo) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return w.HTTPClient.Do(r)
	}
	plain := *r
	plain.Body = struct{ io.ReadCloser }{r.Body}
	return w.HTTPClient.Do(&plain)
}
