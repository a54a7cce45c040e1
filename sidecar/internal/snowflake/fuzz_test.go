package snowflake_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// fixed answers every request with the same.
type fixed struct {
	status int
	body   string
}

func (w fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: w.status, Header: http.Header{"Date": {"Wed, 25 Nov 2026 01:00:00 GMT"}},
		Body: io.NopCloser(strings.NewReader(w.body)), Request: r,
	}, nil
}

// FuzzAnswer gives the client any answer in Snowflake's place.
func FuzzAnswer(f *testing.F) {
	f.Add(uint16(200), `{"code":"090001","resultSetMetaData":{"rowType":[{"name":"property"},{"name":"value"}]},
		"data":[["RSA_PUBLIC_KEY_FP","SHA256:x"],["RSA_PUBLIC_KEY_LAST_SET_TIME","2026-01-02 03:04:05.000"],["X",null]]}`)
	f.Add(uint16(200), `{"code":"090001","resultSetMetaData":{"rowType":[{"name":"name"},{"name":"fingerprint"},{"name":"status"},
		{"name":"expires_at"},{"name":"rotated_to"}]},"data":[["K","SHA256:x","ACTIVE","1767323045.5",null],["L"]]}`)
	f.Add(uint16(422), `{"code":"003001","sqlState":"42501","message":"no"}`)
	f.Add(uint16(401), `{"code":"390144","message":"JWT token is invalid."}`)
	f.Add(uint16(403), `<html>`)
	f.Add(uint16(200), `{"data":[[]]}`)
	key := testkey.Key(0)
	f.Fuzz(func(t *testing.T, status uint16, body string) {
		if status == http.StatusAccepted || status >= 500 || status == http.StatusTooManyRequests {
			return // these are retried
		}
		client := &snowflake.Client{
			Account: "a", Login: "u", User: "U", Protocol: "http", Host: "127.0.0.1", UserAgent: "test",
			HTTP: &http.Client{Transport: fixed{int(status), body}},
		}
		switch err := client.Accepts(t.Context(), key); {
		case err != nil && failure.Class(err) == "":
			t.Fatalf("an error without a class: %v", err)
		case err != nil && (len(err.Error()) > 8<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl)):
			t.Fatalf("not one clean line of some length: %q", err)
		case err == nil && status != http.StatusOK && status != http.StatusUnprocessableEntity:
			t.Fatalf("status %d took the key for accepted", status)
		case err == nil && !strings.Contains(strings.ToLower(body), "code") && !strings.Contains(body, `\u`):
			t.Fatalf("%q took the key for accepted", body) // a proxy's page
		}
		slots, err := client.Slots(t.Context(), key)
		if err == nil && status != http.StatusOK {
			t.Fatalf("status %d gave slots %+v", status, slots)
		}
		pairs, err := client.KeyPairs(t.Context(), key)
		if err == nil && status != http.StatusOK {
			t.Fatalf("status %d gave key pairs %+v", status, pairs)
		}
	})
}

// FuzzParseName checks that a name is read as a statement reads it.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"loader", "LOADER", `"Loader"`, `"a""b"`, "svc-etl", "'loader'\r", "\ufeffloader", `""`, "Jürgen", "select"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := snowflake.ParseName(text)
		if err != nil {
			if name != "" || len(err.Error()) > 200 {
				t.Fatalf("%q with error %v", name, err)
			}
			return
		}
		if strings.ContainsFunc(name, unicode.IsControl) {
			t.Fatalf("%q is read as %q", text, name)
		}
		if name == "" {
			return
		}
		if again, err := snowflake.ParseName(snowflake.Identifier(name)); err != nil || again != name {
			t.Fatalf("%q is read as %q, and that as %q, error %v", text, name, again, err)
		}
	})
}
