package main

import (
	"encoding/json"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/snowkey/snowkey/shared/keyfile"
)

const (
	secretID        = "app/snowflake"
	secretReference = "/aws/reference/secretsmanager/" + secretID
)

// managed is a secret of type SnowflakeKeyPairAuthentication, as AWS keeps it.
func managed(t *testing.T, key, passphrase string, change ...map[string]any) string {
	t.Helper()
	fields := map[string]any{
		"account": "local", "user": "svc", "privateKey": content(t, key), "publicKey": "-----BEGIN PUBLIC KEY-----", "passphrase": passphrase,
	}
	for _, c := range change {
		maps.Copy(fields, c)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ofSecret has the key in Secrets Manager alone.
func (k *task) ofSecret() {
	k.env["SNOWKEY_KEY_PARAMETER"] = secretReference
	delete(k.env, "SNOWKEY_PASSPHRASE_PARAMETER")
}

func TestManagedSecret_RotationIsFollowed(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.ofSecret()
	first := k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase))
	run := k.run()
	run.follows(fingerprint(t, oldFingerprint))
	if s := k.status(); s.Version != first || !strings.Contains(s.Source, ":secret:"+secretID+"-") {
		t.Errorf("status %+v, want version %s", s, first)
	}
	second := k.ssm.PutSecret(secretID, managed(t, nextKeyOfNext, nextPassphrase))
	run.signal(syscall.SIGHUP)
	run.follows(fingerprint(t, nextFingerprint))
	if s := k.status(); s.Version != second {
		t.Errorf("version %s, want %s", s.Version, second)
	}
	before := k.snapshot()

	for _, bad := range []struct {
		value string
		badInput
	}{
		{managed(t, oldKey, passphrase)[:900], badInput{name: "cut", class: keyfile.ClassUnreadableKey, says: []string{"begins like JSON"}}},
		{`{"private_key":"` + notAKey + `"}`, badInput{name: "other names", class: keyfile.ClassUnreadableKey, says: []string{"without privateKey", "SnowflakeKeyPairAuthentication"}}},
		{managed(t, oldKey, wrongPassphrase), badInput{name: "wrong passphrase", class: keyfile.ClassPassphrase, says: []string{"does not open the key"}}},
	} {
		k.ssm.PutSecret(secretID, bad.value)
		failures := run.count("refresh failed")
		run.signal(syscall.SIGHUP)
		run.fails(bad.badInput, failures)
		k.untouched(before)
	}
}

func TestManagedSecret_InTheEnvironment(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.withoutAWS()
	k.env["SECRET_KEY"] = managed(t, oldKey, passphrase)
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint))
	k.env["PRIVATE_KEY_PASSPHRASE"] = wrongPassphrase // goes before the secret's own
	k.do("once").want(exitRefused, "does not open the key")
	k.env["SECRET_KEY"] = managed(t, oldKey, wrongPassphrase)
	k.env["PRIVATE_KEY_PASSPHRASE"] = passphrase
	k.do("once").want(exitDone, "unchanged")
}

func TestManagedSecret_NamesTheUserToVerify(t *testing.T) {
	t.Parallel()
	k, account := verified(t)
	k.ofSecret()
	delete(k.env, "SNOWFLAKE_ACCOUNT")
	delete(k.env, "SNOWFLAKE_USER")
	k.ssm.PutSecret(secretID, managed(t, oldKey, passphrase))
	k.do("once").want(exitDone, fingerprint(t, oldFingerprint))

	k.ssm.PutSecret(secretID, managed(t, nextKey, passphrase))
	before := k.snapshot()
	k.do("once").want(exitRefused, "Snowflake refuses the key", "user svc")
	k.assign(account, 2, "testdata/next.pem")
	k.env["SNOWFLAKE_USER"] = "nobody" // what is set goes before the secret's own
	k.do("once").want(exitRefused, "user nobody")
	delete(k.env, "SNOWFLAKE_USER")
	k.untouched(before)

	k.ssm.PutSecret(secretID, managed(t, nextKey, passphrase, map[string]any{"user": ""}))
	k.do("once").want(exitRefused, "does not say whose key it is", "SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
	for field, form := range map[string]string{"account": "ORGANIZATION-ACCOUNT", "user": "LOGIN_NAME"} {
		k.ssm.PutSecret(secretID, managed(t, nextKey, passphrase, map[string]any{field: "my/org \u0000"}))
		k.do("once").want(exitRefused, "the "+field+" beside privateKey is invalid", form, "or set SNOWFLAKE_"+strings.ToUpper(field))
	}
	k.untouched(before)
	k.ssm.PutSecret(secretID, managed(t, nextKey, passphrase))
	k.do("once").want(exitDone, "published "+fingerprint(t, nextFingerprint))

	k.env["SNOWKEY_KEY_PARAMETER"] = keyParameter // which has a PEM
	once := k.do("once")
	once.want(exitUsage, "set SNOWFLAKE_ACCOUNT and SNOWFLAKE_USER")
	if strings.Contains(once.stderr.String(), "secret does not") {
		t.Error("it fetched the secret")
	}
}
