package snowflake_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

func TestReach_GivesSnowflakesTime(t *testing.T) {
	_, client := local(t, "myaccount")
	clock := func() time.Time { return time.Now().Add(-time.Hour) }
	client.HTTP = &http.Client{Transport: otherClock(clock)}
	date, err := client.Reach(t.Context())
	if err != nil || date.Sub(clock()).Abs() > 5*time.Second {
		t.Errorf("%v, %v", date, err)
	}
	client.HTTP = &http.Client{Transport: otherClock(nil)}
	if date, err := client.Reach(t.Context()); err != nil || !date.IsZero() {
		t.Errorf("without a Date: %v, %v", date, err)
	}
}

func TestReach_NoAccountIsAnError(t *testing.T) {
	for name, tc := range map[string]struct {
		through http.RoundTripper
		class   keyfile.ErrorClass
	}{
		"a page":           {fixed{200, "<html>"}, keyfile.ClassNetwork},
		"no such page":     {fixed{404, "<html>"}, keyfile.ClassOther},
		"a proxy forbids":  {fixed{403, "<html>"}, keyfile.ClassOther},
		"no such host":     {failing{&net.DNSError{IsNotFound: true}}, keyfile.ClassOther},
		"no TLS":           {failing{tls.RecordHeaderError{Conn: new(net.TCPConn)}}, keyfile.ClassOther},
		"not reached":      {failing{io.EOF}, keyfile.ClassNetwork},
		"a login is asked": {fixed{401, `{"code":"390101"}`}, ""},
		"too busy":         {fixed{503, ""}, ""},
	} {
		client := &snowflake.Client{Account: "a", HTTP: &http.Client{Transport: tc.through}}
		if _, err := client.Reach(t.Context()); failure.Class(err) != tc.class && err != nil || (err == nil) != (tc.class == "") {
			t.Errorf("%s: error %v of class %s, want %q", name, err, failure.Class(err), tc.class)
		}
	}
}

func TestAccepts_AdviceIsAboutTheCause(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*localsnowflake.Server, *snowflake.Client)
		class  keyfile.ErrorClass
		says   string
	}{
		"a network policy": {func(s *localsnowflake.Server, _ *snowflake.Client) {
			s.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.BlockedByNetworkPolicy() })
		}, keyfile.ClassNetwork, "127.0.0.1 is not allowed to access Snowflake. Contact your local security administrator.; " +
			"allow this machine's address in the network policy of the account or of user etl"},
		"a network policy, with 401": {func(s *localsnowflake.Server, _ *snowflake.Client) {
			s.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
				return &localsnowflake.Fault{Code: localsnowflake.NetworkPolicyDenied, Status: http.StatusUnauthorized}
			})
		}, keyfile.ClassNetwork, "in the network policy"},
		"another user": {func(_ *localsnowflake.Server, c *snowflake.Client) { c.Login = "nobody" },
			keyfile.ClassSnowflake, "check SNOWFLAKE_USER"},
		"a disabled user": {func(s *localsnowflake.Server, _ *snowflake.Client) { s.SetDisabled("etl", true) },
			keyfile.ClassSnowflake, "ALTER USER etl SET DISABLED = FALSE"},
		"a locked user": {func(s *localsnowflake.Server, _ *snowflake.Client) { s.Lock("etl", time.Hour) },
			keyfile.ClassSnowflake, "ALTER USER etl SET MINS_TO_UNLOCK = 0"},
		"a default role that is not granted": {func(s *localsnowflake.Server, _ *snowflake.Client) { s.SetDefaultRole("etl", "sysadmin") },
			keyfile.ClassSnowflake, "set SNOWFLAKE_ROLE to a role of the user's (SHOW GRANTS TO USER etl), or give the user a DEFAULT_ROLE that it has"},
		"another role": {func(s *localsnowflake.Server, c *snowflake.Client) { s.SetRoles("etl", "loader"); c.Role = "AUDITOR" },
			keyfile.ClassSnowflake, "correct SNOWFLAKE_ROLE, or GRANT ROLE AUDITOR TO USER etl"},
	} {
		t.Run(name, func(t *testing.T) {
			server, client, key := assigned(t)
			tc.change(server, client)
			err := client.Accepts(t.Context(), key)
			if failure.Class(err) != tc.class || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v of class %s, want %s with %q", err, failure.Class(err), tc.class, tc.says)
			}
		})
	}
}
