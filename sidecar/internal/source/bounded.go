package source

import (
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// maxAnswer is more than the longest answer there can be: ten secrets of 64 KiB with every character escaped.
const maxAnswer = 4 << 20

// bounded reads no more of an answer than maxAnswer. The SDK reads whatever comes, for as long as a call may
// take: what answers for SSM without an end would cost all memory there is.
type bounded struct{ ssm.HTTPClient }

func (b bounded) Do(r *http.Request) (*http.Response, error) {
	answer, err := b.HTTPClient.Do(r)
	if err == nil && answer.Body != nil {
		answer.Body = &boundedBody{answer.Body, maxAnswer}
	}
	return answer, err
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
