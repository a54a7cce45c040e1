package localsnowflake_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// BenchmarkQuery is what a query costs here, without a network and without a client.
func BenchmarkQuery(b *testing.B) {
	s := localsnowflake.New()
	s.CreateUser("svc")
	s.SetPublicKey("svc", 1, &oldKey().PublicKey)
	listener := httptest.NewServer(s)
	defer listener.Close()
	c := (&client{t: b, url: listener.URL}).open()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, localsnowflake.EndpointQuery+"?requestId=3c2f7a52-6d4e-4a5a-8a44-8b6d6b7f9a11", strings.NewReader(`{"sqlText":"SELECT 1","sequenceId":1}`))
			r.Header.Set("Authorization", `Snowflake Token="`+c.token+`"`)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if !strings.Contains(w.Body.String(), `"rowset":[["1"]]`) {
				b.Fatal(w.Body)
			}
		}
	})
}
