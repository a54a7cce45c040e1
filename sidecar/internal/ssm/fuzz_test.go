package ssm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// FuzzAnswer answers anything for SSM: a key's material is what the answer has under its name, and an error has a
// class. The test reads the answer without the SDK.
func FuzzAnswer(f *testing.F) {
	type answer struct {
		status int
		body   string
	}
	var next atomic.Pointer[answer]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := next.Load()
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte(a.body))
	}))
	f.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SSM": server.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
	} {
		f.Setenv(name, value)
	}
	s := newReading(f, Parameters{Key: "/a"}, Parameters{Key: "/b:prod"})
	f.Add(uint16(200), `{"Parameters":[{"Name":"/a","Value":"of a","Version":1,"LastModifiedDate":1.7e9},
		{"Name":"/b","Value":"of b","Version":2,"Selector":":prod"}],"InvalidParameters":[]}`)
	f.Add(uint16(200), `{"Parameters":[{"Name":"/b","Value":"of b","Version":-1}],"InvalidParameters":["/a"]}`)
	f.Add(uint16(400), `{"__type":"AccessDeniedException","message":"User: arn:aws:sts::1:x is not authorized to perform: ssm:GetParameters"}`)
	f.Add(uint16(400), `{"__type":"ThrottlingException"}`)
	f.Add(uint16(200), `{"Parameters":[null,{"Name":null,"SourceResult":"{"}]}`)
	f.Fuzz(func(t *testing.T, status uint16, body string) {
		if status < 200 || status > 599 {
			return
		}
		next.Store(&answer{int(status), body})
		fetched := s.Fetch(t.Context(), s.wanted(make([]Revision, 2)))
		if len(fetched) != 2 {
			t.Fatalf("%d answers about two keys", len(fetched))
		}
		for i, got := range fetched {
			switch {
			case got.Err == nil && got.Material == nil:
				t.Fatalf("key %d, of which nothing was known, is unchanged", i)
			case got.Err != nil && failure.Class(got.Err) == "":
				t.Fatalf("key %d: an error without a class: %v", i, got.Err)
			case got.Err == nil && status >= 300:
				t.Fatalf("key %d: status %d gave material", i, status)
			// Bytes that are not UTF-8 are no JSON, and each reader makes something else of them.
			case got.Err == nil && utf8.ValidString(body) && !under([]byte(body), []string{"/a", "/b"}[i], string(got.Material.Text.Bytes())):
				t.Fatalf("key %d: %q is not what the answer has for it", i, got.Material.Text.Bytes())
			}
		}
	})
}

// under reports whether JSON has an object with this name and this value.
func under(body []byte, name, value string) bool {
	var answer map[string]any
	// The SDK reads one document, whatever comes after it.
	if json.NewDecoder(bytes.NewReader(body)).Decode(&answer) != nil {
		return false
	}
	all, _ := answer["Parameters"].([]any)
	return slices.ContainsFunc(all, func(one any) bool {
		p, _ := one.(map[string]any)
		return p["Value"] == value && (p["Name"] == name || "/"+fmt.Sprint(p["Name"]) == name) // of two spellings
	})
}

// FuzzParseName checks what holds for any text that names a parameter or a secret.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{
		"/app/key", "key", "/app/key:3", "arn:aws:ssm:us-east-1:123456789012:parameter/app/key:prod",
		"/aws/reference/secretsmanager/app/db:AWSPREVIOUS", "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-AbCdEf",
		"arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db", "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-AbCdEf:privateKey::",
		"/aws/reference/secretsmanager/arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:app/db-AbCdEf::AWSPENDING:",
		"arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-??????", "arn:aws:ssm:us-east-1a:123456789012:parameter/app/key",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		n, err := ParseName(written)
		if err != nil {
			if n != (Name{}) || len(err.Error()) > 300 {
				t.Fatalf("%+v, error %v", n, err)
			}
			return
		}
		if n.String() != written || n.plain() == "" || !n.SameParameter(n) {
			t.Fatalf("%q: %+v", written, n)
		}
		if n.region != "" && !isRegion(n.region) || n.SecretsManager() != strings.HasPrefix(n.asked, secretsManagerPrefix) {
			t.Fatalf("%q: %+v", written, n)
		}
		if again, err := ParseName(n.asked); err != nil || again.asked != n.asked || again.selector != n.selector {
			t.Fatalf("%q is %q for SSM, and that is %q, error %v", written, n.asked, again.asked, err)
		}
	})
}
