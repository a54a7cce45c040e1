package localsnowflake_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

func TestServer_ReadsGzippedBodies(t *testing.T) {
	a := newAccount(t)
	c := a.client()
	c.gzip = true
	if out := c.open().query("", "SELECT 1"); !out.Success || out.Data.RowSet[0][0] != "1" {
		t.Errorf("got %+v", out)
	}
}

func TestServer_RefusesMalformedBodies(t *testing.T) {
	a := newAccount(t)
	a.client().mustPost(localsnowflake.EndpointLogin, "text").want(t, localsnowflake.InvalidPayload)
	c := a.client().open()
	c.mustPost(localsnowflake.EndpointQuery, "text").want(t, localsnowflake.InvalidPayload)
	c.mustPost(localsnowflake.EndpointAbort, "text").want(t, localsnowflake.InvalidPayload)
	c.mustPost(localsnowflake.EndpointRenew, map[string]any{"requestType": "ISSUE"}).want(t, localsnowflake.InvalidPayload)
	c.mustPost(localsnowflake.EndpointClose, nil).want(t, localsnowflake.InvalidPayload)
}

func TestTokens(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()

	forged := *c
	forged.token = "ver:3-hint:1-x"
	forged.query("", "SELECT 1").want(t, localsnowflake.SessionTokenInvalid)
	forged.token = c.token + "x"
	forged.query("", "SELECT 1").want(t, localsnowflake.SessionTokenInvalid)
	forged.token = c.master
	forged.query("", "SELECT 1").want(t, localsnowflake.SessionTokenInvalid)

	c.renew("ver:3-hint:1-x").want(t, localsnowflake.MasterTokenNotFound)
	c.renew(c.token).want(t, localsnowflake.MasterTokenInvalid)

	renewed := c.renew(c.master)
	if !renewed.Success || renewed.Data.SessionToken == "" || renewed.Data.MasterToken == "" || renewed.Data.SessionID != a.Sessions()[0].ID {
		t.Fatalf("renewed: %+v", renewed)
	}
	c.query("", "SELECT 1").want(t, localsnowflake.SessionExpired) // so that a straggler takes the new token
	c.renew(c.master).want(t, localsnowflake.MasterTokenInvalid)
	c.token = renewed.Data.SessionToken
	if out := c.query("", "SELECT 1"); !out.Success {
		t.Errorf("got %+v", out)
	}
}

func TestSession_MasterTokenExpires(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	a.clock.advance(4 * time.Hour)
	c.query("", "SELECT 1").want(t, localsnowflake.SessionExpired)
	c.renew(c.master).want(t, localsnowflake.MasterTokenExpired)
}

func TestSession_ClosedOneIsGone(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	if out := c.mustPost("/session?delete=true", nil); !out.Success {
		t.Fatalf("got %+v", out)
	}
	c.query("", "SELECT 1").want(t, localsnowflake.SessionGone)
	c.renew(c.master).want(t, localsnowflake.SessionGone)
	c.mustPost("/session?delete=true", nil).want(t, localsnowflake.SessionGone)
	if n := a.Counters().SessionsClosed; n != 1 {
		t.Errorf("%d sessions closed, want 1", n)
	}
}

func TestSession_ExpiredOneCanBeClosed(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	a.EndSessions(localsnowflake.SessionExpired)
	c.mustPost("/session?delete=true", nil).want(t, localsnowflake.SessionExpired)
	if open := a.Sessions(); len(open) != 0 {
		t.Errorf("sessions: %+v", open)
	}
}

func TestSession_HeartbeatAndTelemetry(t *testing.T) {
	a := newAccount(t)
	c := a.client().open()
	for _, path := range []string{localsnowflake.EndpointHeartbeat, "/telemetry/send", "/telemetry/send/sessionless"} {
		if out := do(t, http.MethodPost, c.url+path, http.Header{"Authorization": {`Snowflake Token="` + c.token + `"`}}, "{}").body; !strings.Contains(out, `"success":true`) {
			t.Errorf("%s: %s", path, out)
		}
	}
	if n := a.Counters().Heartbeats; n != 1 {
		t.Errorf("%d heartbeats", n)
	}
	a.EndSessions(localsnowflake.SessionGone)
	c.mustPost(localsnowflake.EndpointHeartbeat, nil).want(t, localsnowflake.SessionGone)
}

func TestSession_OfALostClientIsForgotten(t *testing.T) {
	a := newAccount(t)
	first := a.client().open()
	signed := token(t, oldKey())
	for range 1023 {
		a.client().login(signed)
	}
	a.EndSessions(localsnowflake.MasterTokenExpired)
	first.query("", "SELECT 1").want(t, localsnowflake.SessionExpired)
	a.client().open()
	first.query("", "SELECT 1").want(t, localsnowflake.SessionGone)
}
