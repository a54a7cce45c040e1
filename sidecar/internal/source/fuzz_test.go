package source

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// FuzzAnswer has SSM's place taken by anything: one key's material is never another's, and an error has a class.
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
	s, err := NewSSM(f.Context(), Parameters{Key: "/a"}, Parameters{Key: "/b:prod"})
	if err != nil {
		f.Fatal(err)
	}
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
		fetched := s.Fetch(t.Context(), []Wanted{{Key: 0}, {Key: 1}})
		if len(fetched) != 2 {
			t.Fatalf("%d answers about two keys", len(fetched))
		}
		for i, got := range fetched {
			switch {
			case got.Err == nil && got.Material == nil:
				t.Fatalf("key %d, of which nothing was known, is unchanged", i)
			case got.Err != nil && failure.Class(got.Err) == "":
				t.Fatalf("key %d: an error without a class: %v", i, got.Err)
			}
		}
	})
}
