package main

import (
	"net/http/httptest"
	"net/url"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// verified is a task whose keys Snowflake has to accept, and the account where the old one is assigned.
func verified(t *testing.T) (*task, *localsnowflake.Server) {
	t.Helper()
	account := localsnowflake.New()
	account.CreateUser("svc")
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	k := newTask(t)
	k.env["SNOWKEY_VERIFY"] = "true"
	k.env["SNOWFLAKE_ACCOUNT"] = "local"
	k.env["SNOWFLAKE_USER"] = "svc"
	k.env["SNOWFLAKE_PROTOCOL"] = "http"
	k.env["SNOWFLAKE_HOST"], k.env["SNOWFLAKE_PORT"] = at.Hostname(), at.Port()
	k.assign(account, 1, "internal/decrypt/testdata/rsa.pem")
	return k, account
}

func (k *task) assign(account *localsnowflake.Server, slot int, path string) {
	k.t.Helper()
	key, err := keyfile.Read(path)
	k.must(err)
	account.SetPublicKey("svc", slot, &key.RSA().PublicKey)
}

func TestVerify_PublishesOnlyAcceptedKeys(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	run := k.run("--interval=1h")
	run.follows(fingerprint(t, oldFingerprint))
	before := k.snapshot()
	refused := badInput{
		name: "a key that is not assigned", class: keyfile.ClassSnowflake,
		says: []string{"Snowflake refuses the key " + fingerprint(t, nextFingerprint), "user svc", "ALTER USER svc SET RSA_PUBLIC_KEY"},
	}

	k.ssm.Put(keyParameter, content(t, nextKey))
	run.signal(syscall.SIGHUP)
	run.fails(refused, 0)
	k.do("once").want(exitRefused, refused.says...)
	k.untouched(before)
	k.do("healthcheck").want(exitDone, fingerprint(t, oldFingerprint)+" is published", "failed: snowflake_refused")
	eventually := run.count("refresh failed")
	run.eventually("the next refresh comes sooner than the interval", func() bool { return run.count("refresh failed") > eventually })

	k.assign(account, 2, "testdata/next.pem")
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, nextFingerprint))
}

func TestVerify_KeepsTheKeyWhileSnowflakeIsUnreachable(t *testing.T) {
	t.Parallel()
	k, _ := verified(t)
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint))
	before := k.snapshot()
	k.ssm.Put(keyParameter, content(t, nextKey))
	k.unreachable()
	k.do("once").want(exitFailed, "Snowflake was not reached", "connection refused", "SNOWFLAKE_HOST, SNOWFLAKE_PORT")
	k.untouched(before)
}

// unreachable takes Snowflake away and gives a function that brings it back.
func (k *task) unreachable() (back func()) {
	host, port := k.env["SNOWFLAKE_HOST"], k.env["SNOWFLAKE_PORT"]
	k.env["SNOWFLAKE_HOST"] = "127.0.0.1"
	k.env["SNOWFLAKE_PORT"] = freeAddress(k.t)[len("127.0.0.1:"):]
	return func() { k.env["SNOWFLAKE_HOST"], k.env["SNOWFLAKE_PORT"] = host, port }
}

func TestVerify_FirstKeyWaitsForSnowflake(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	back := k.unreachable()
	k.do("once").want(exitFailed, "Snowflake was not reached")
	k.do("healthcheck").want(exitFailed, "unhealthy", "the refresh at ", "failed: network")

	k.env["SNOWKEY_VERIFY_UNREACHABLE"] = "publish"
	k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint), "not verified", "Snowflake was not reached")
	k.do("healthcheck").want(exitDone, "failed: network")

	back()
	account.UnsetPublicKey("svc", 1)
	k.ssm.Put(keyParameter, content(t, nextKey))
	k.do("once").want(exitRefused, "Snowflake refuses the key "+fingerprint(t, nextFingerprint))
	k.do("healthcheck").want(exitDone, fingerprint(t, oldFingerprint)+" is published", "failed: snowflake_refused")
}

// A wrong setting is no outage.
func TestVerify_WrongSettingPublishesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*task, *localsnowflake.Server)
		exit  int
	}{
		"no such host":   {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_HOST"] = noSuchHost(k.t) }, exitFailed},
		"http for https": {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_PROTOCOL"] = "https" }, exitFailed},
		"another server at this port": {func(k *task, _ *localsnowflake.Server) {
			k.env["SNOWFLAKE_PORT"] = k.env["AWS_ENDPOINT_URL_SSM"][len("http://127.0.0.1:"):]
		}, exitFailed},
		"a host that redirects": {func(_ *task, account *localsnowflake.Server) {
			account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return &localsnowflake.Fault{Status: 301} })
		}, exitFailed},
		"a host that answers with a page": {func(_ *task, account *localsnowflake.Server) {
			account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
				return &localsnowflake.Fault{Status: 200, Body: "<html>"}
			})
		}, exitFailed},
		"no such account": {func(_ *task, account *localsnowflake.Server) {
			account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
				return localsnowflake.UnknownAccount(404)
			})
		}, exitFailed},
		"another account": {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_ACCOUNT"] = "other" }, exitRefused},
		"no such user":    {func(k *task, _ *localsnowflake.Server) { k.env["SNOWFLAKE_USER"] = "nobody" }, exitRefused},
		"no such role": {func(k *task, account *localsnowflake.Server) {
			account.SetRoles("svc", "loader")
			k.env["SNOWFLAKE_ROLE"] = "misspelt"
		}, exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, account := verified(t)
			k.env["SNOWKEY_VERIFY_UNREACHABLE"] = "publish"
			tc.spoil(k, account)
			k.do("once").want(tc.exit, "SNOWFLAKE_")
			if status := k.status(); status.Fingerprint != "" {
				t.Errorf("%+v", status)
			}
			k.do("healthcheck").want(exitFailed, "unhealthy")
		})
	}
}

func TestVerify_ReadsAccountAndRoleAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	account.SetRoles("svc", "loader")
	k.env["SNOWFLAKE_ACCOUNT"], k.env["SNOWFLAKE_USER"], k.env["SNOWFLAKE_ROLE"] = "\"https://LOCAL.snowflakecomputing.com/\"\r", " 'Svc'\r", "loader\r"
	k.env["SNOWFLAKE_HOST"], k.env["SNOWFLAKE_PORT"] = k.env["SNOWFLAKE_HOST"]+":"+k.env["SNOWFLAKE_PORT"], k.env["SNOWFLAKE_PORT"]+"\r"
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint))
}

// What was published without Snowflake's word does not get it by a restart.
func TestVerify_UnverifiedKeyIsVerifiedAfterARestart(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	k.env["SNOWKEY_VERIFY_UNREACHABLE"] = "publish"
	back := k.unreachable()
	k.do("once").want(exitDone, "published "+fingerprint(t, oldFingerprint), "not verified")
	k.do("once").want(exitDone, "unchanged "+fingerprint(t, oldFingerprint), "not verified")
	back()
	account.UnsetPublicKey("svc", 1)
	k.do("once").want(exitRefused, "Snowflake refuses the key "+fingerprint(t, oldFingerprint))
	k.do("healthcheck").want(exitDone, fingerprint(t, oldFingerprint)+" is published", "failed: snowflake_refused")

	k.assign(account, 1, "internal/decrypt/testdata/rsa.pem")
	k.do("once").want(exitDone, "unchanged "+fingerprint(t, oldFingerprint))
	k.unreachable()
	p := k.do("once") // a key that was accepted once is not verified again
	p.want(exitDone, "unchanged "+fingerprint(t, oldFingerprint))
	if said := p.stderr.String(); said != "" {
		t.Errorf("it says %q", said)
	}
}
