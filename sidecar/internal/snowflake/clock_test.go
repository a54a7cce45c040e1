package snowflake_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// shifted is assigned on a Snowflake whose clock is off.
func shifted(t *testing.T, skew time.Duration, opts ...localsnowflake.Option) (client *snowflake.Client, key *keyfile.Key, calls *atomic.Int32) {
	t.Helper()
	clock := func() time.Time { return time.Now().Add(skew) }
	server, client, key := assigned(t, append(opts, localsnowflake.WithClock(clock))...)
	calls = new(atomic.Int32)
	server.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { calls.Add(1); return nil })
	client.HTTP = &http.Client{Transport: otherClock(clock)}
	return client, key, calls
}

func TestAccepts_WrongClockIsCorrected(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, -2 * time.Minute, 2 * time.Minute, time.Hour} {
		client, key, _ := shifted(t, skew)
		if err := client.Accepts(t.Context(), key); err != nil {
			t.Errorf("%v: %v", skew, err)
		}
		if err := client.Accepts(t.Context(), testkey.Key(1)); failure.Class(err) != keyfile.ClassSnowflake {
			t.Errorf("%v: a key that is not assigned: error %v of class %s", skew, err, failure.Class(err))
		}
	}
}

// Another server in Snowflake's place must not choose from when on a token is good.
func TestAccepts_NoTokenForAnImplausibleTime(t *testing.T) {
	for name, opts := range map[string][]localsnowflake.Option{"codes": nil, "one code": {localsnowflake.WithGenericLoginErrors()}} {
		for _, skew := range []time.Duration{-300 * 24 * time.Hour, -2 * time.Hour, 2 * time.Hour, 300 * 24 * time.Hour} {
			t.Run(fmt.Sprint(name, skew), func(t *testing.T) {
				client, key, calls := shifted(t, skew, opts...)
				err := client.Accepts(t.Context(), key)
				if n := calls.Load(); n != 1 {
					t.Errorf("%d tokens were sent", n)
				}
				if failure.Class(err) != keyfile.ClassOther {
					t.Errorf("class %s", failure.Class(err))
				}
				here, there := time.Now().UTC(), time.Now().Add(skew).UTC()
				for _, want := range []string{here.Format("2006-01-02T15"), there.Format("2006-01-02T15"), "set this machine's clock"} {
					if !strings.Contains(fmt.Sprint(err), want) {
						t.Errorf("%v lacks %q", err, want)
					}
				}
			})
		}
	}
}

func TestAccepts_WrongClockSaysNothingAboutTheKey(t *testing.T) {
	client, key, _ := shifted(t, 5*time.Minute)
	client.HTTP = &http.Client{Transport: otherClock(nil)}
	if err := client.Accepts(t.Context(), key); failure.Class(err) != keyfile.ClassOther || !strings.Contains(fmt.Sprint(err), "set this machine's clock") {
		t.Errorf("error %v of class %s", err, failure.Class(err))
	}
}
