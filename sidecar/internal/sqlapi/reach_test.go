package sqlapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/internal/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

func TestReachGivesTheTimeByTheOthersClock(t *testing.T) {
	_, client := snowflake(t, "myaccount")
	clock := func() time.Time { return time.Now().Add(-time.Hour) }
	client.HTTP = &http.Client{Transport: dated{clock}}
	date, err := client.Reach(t.Context())
	if err != nil || date.Sub(clock()).Abs() > 5*time.Second {
		t.Errorf("%v, %v", date, err)
	}
	client.HTTP = &http.Client{Transport: dated{}}
	if date, err := client.Reach(t.Context()); err != nil || !date.IsZero() {
		t.Errorf("without a Date: %v, %v", date, err)
	}
	client.Host = "snowflake.invalid"
	if _, err := client.Reach(t.Context()); failure.Class(err) != keyfile.ClassNetwork {
		t.Errorf("error %v", err)
	}
}

// What refuses is neither the key nor the way there, and the advice is about what it is.
func TestARefusalThatIsNotTheKeysSaysWhoseItIs(t *testing.T) {
	server, client := snowflake(t, "myaccount")
	server.SetPublicKey("ETL", 1, &testkey.Key(0).RSA().PublicKey)
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
			return &localsnowflake.Fault{Status: status, Code: 390422, Message: "Incoming request with IP/Token 192.0.2.1 is not allowed to access Snowflake."}
		})
		err := client.Accepts(t.Context(), testkey.Key(0))
		if failure.Class(err) != keyfile.ClassNetwork || !strings.Contains(err.Error(), "192.0.2.1") || !strings.Contains(err.Error(), "network policy") {
			t.Errorf("%d: error %v of class %s", status, err, failure.Class(err))
		}
	}
	server.Intercept(nil)
	client.User = "nobody"
	if err := client.Accepts(t.Context(), testkey.Key(0)); failure.Class(err) != keyfile.ClassSnowflake || !strings.Contains(err.Error(), "check SNOWFLAKE_USER") {
		t.Errorf("error %v", err)
	}
}
