package rotate

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// identify names a request, and gives its body back.
func (p *process) identify(r *http.Request, isSSM bool) (call, io.ReadCloser) {
	data, _ := io.ReadAll(r.Body)
	c := call{ssm: isSSM}
	var in struct{ Statement, Name string }
	_ = json.Unmarshal(data, &in)
	if isSSM {
		_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		c.what = strings.TrimSpace(action + " " + in.Name)
	} else {
		c.what, _, _ = strings.Cut(in.Statement, "='")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.n = len(p.calls) + 1
	p.calls = append(p.calls, c)
	return c, io.NopCloser(bytes.NewReader(data))
}
