package snowflake

import (
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
)

// BenchmarkToken signs a login token.
func BenchmarkToken(b *testing.B) {
	c := &Client{Account: "MYACCOUNT", Login: "ETL"}
	key := testkey.Key(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.token(key, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
