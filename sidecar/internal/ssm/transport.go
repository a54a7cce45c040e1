package ssm

import (
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// maxAnswer is more than the longest answer there can be: ten secrets of 64 KiB with every character escaped.
const maxAnswer = 4 << 20

// transport stands between the SDK and the network. It reads no more of an answer than maxAnswer: the SDK reads
// whatever comes, for as long as a call may take, and an answer without an end would cost all memory there is.
type transport struct{ ssm.HTTPClient }

func (t transport) Do(r *http.Request) (*http.Response, error) {
	answer, err := t.HTTPClient.Do(withoutWriteTo(r))
	if err == nil && answer.Body != nil {
		answer.Body = &boundedBody{answer.Body, maxAnswer}
	}
	return answer, err
}

// withoutWriteTo hides a method of the SDK's body. The SDK closes the body as soon as there is an answer, and
// net/http, which may look only then whether there is more to send, would take what the method says of a closed
// body for a failure and hang up in the middle of the answer.
func withoutWriteTo(r *http.Request) *http.Request {
	if r.Body == nil {
		return r
	}
	plain := *r
	plain.Body = struct{ io.ReadCloser }{r.Body}
	return &plain
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("it is longer than %d MiB", maxAnswer>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	return n, err
}
