package main

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/keygen"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// snowflakeAilments are of the account, how it is reached, and its user.
var snowflakeAilments = []ailment{
	{name: "no such Snowflake host", spoil: ofTask(func(k *task) { k.env["SNOWFLAKE_HOST"] = noSuchHost(k.t) }), lines: noSnowflake("")},
	{name: "no way to Snowflake", spoil: ofTask(func(k *task) { k.unreachable() }), lines: noSnowflake(`fail  snowflake host: http://HOST: Snowflake was not reached: dial tcp HOST: connect: connection refused; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the way to HOST (NAT gateway or PrivateLink, network policy)`)},
	{name: "a proxy that is not there", spoil: ofTask(func(k *task) {
		k.env["SNOWFLAKE_HOST"], k.env["HTTP_PROXY"] = "snowflake.invalid", "http://user:word@"+freeAddress(k.t)
	}), lines: noSnowflake(`fail  snowflake host: http://snowflake.invalid:PORT: Snowflake was not reached: proxyconnect tcp: dial tcp HOST: connect: connection refused; check the proxy in HTTP_PROXY, through which snowflake.invalid:PORT is called, or name the host in NO_PROXY`)},
	{name: "an address for the account", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "https://local.snowflakecomputing.com/")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "https://local.snowflakecomputing.com/", which other clients may not read; write it as local`},
	{name: "JDBC's address for the account, with a password", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "jdbc:snowflake://local.snowflakecomputing.com/?private_key_pwd="+url.PathEscape(passphrase))),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "jdbc:snowflake://local.snowflakecomputing.com/", which other clients may not read; write it as local`},
	{name: "an account with the end of a line", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "local\r")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "local\r", which other clients may not read; write it as local`},
	{name: "a host for the account that no identifier leads to", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "local.snowflakecomputing.cn")),
		lines: `warn  snowflake host: http://HOST, answers; the account is written "local.snowflakecomputing.cn", which other clients may not read; write it as local, and SNOWFLAKE_HOST=local.snowflakecomputing.cn`},
	{name: "a certificate that is not trusted here", spoil: ofTask(func(k *task) {
		server := httptest.NewUnstartedServer(nil)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		k.t.Cleanup(server.Close)
		k.env["SNOWFLAKE_PROTOCOL"], k.env["SNOWFLAKE_PORT"] = "https", server.URL[strings.LastIndex(server.URL, ":")+1:]
	}), lines: noSnowflake(`fail  snowflake host: https://HOST: Snowflake was not reached: tls: failed to verify certificate: x509: certificate signed by unknown authority; if a proxy opens TLS, or the endpoint is your own, name the PEM file with its CA certificate in AWS_CA_BUNDLE or SSL_CERT_FILE, which SSM and Snowflake both use, or name the host in NO_PROXY; otherwise find out who answers there`)},
	{name: "no such account", spoil: func(_ *task, account *localsnowflake.Server) {
		account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.UnknownAccount(404) })
	}, lines: `warn  snowflake host: Snowflake at 127.0.0.1 answered 404 Not Found; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the account's network policy
skip  snowflake clock (what answers may not be Snowflake)
fail  snowflake login: Snowflake at 127.0.0.1 answered 404 Not Found; check SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL, and the account's network policy` + noLogin},
	{name: "another account", spoil: ofTask(set("SNOWFLAKE_ACCOUNT", "other")), lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc: 394307 JWT token is invalid. JWT_TOKEN_ACCOUNT_MISMATCH [ID]; check SNOWFLAKE_ACCOUNT: the token names another account than the one that answers` + noLogin},
	{name: "a refused key", spoil: func(_ *task, account *localsnowflake.Server) { account.UnsetPublicKey("svc", 1) }, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc: 394304 JWT token is invalid. JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH [ID]; compare it with DESC USER svc, and assign it: ALTER USER svc SET RSA_PUBLIC_KEY_2='...'` + noLogin},
	{name: "an unknown user", spoil: ofTask(set("SNOWFLAKE_USER", "nobody")), lines: `fail  snowflake login: Snowflake refuses the key OLD for user nobody: 394300 JWT token is invalid. JWT_TOKEN_INVALID_USER_IN_ISSUER [ID]; check SNOWFLAKE_USER: the account has no user with this LOGIN_NAME, which need not be the user's name (DESC USER shows both)` + noLogin},
	{name: "a network policy", spoil: func(_ *task, account *localsnowflake.Server) {
		account.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.BlockedByNetworkPolicy() })
	}, lines: `fail  snowflake login: a network policy of Snowflake refuses this address: 390422 Incoming request with IP/Token 127.0.0.1 is not allowed to access Snowflake. Contact your local security administrator.; allow this machine's address in the network policy of the account or of user svc` + noLogin},
	{name: "a disabled user", spoil: func(_ *task, account *localsnowflake.Server) { account.SetDisabled("svc", true) },
		lines: `fail  snowflake login: Snowflake refuses user svc: 390101 User access disabled. Contact your local system administrator.; enable the user: ALTER USER svc SET DISABLED = FALSE` + noLogin},
	{name: "a role that is not granted", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader")
		k.env["SNOWFLAKE_ROLE"] = "auditor"
	}, lines: `fail  role: Snowflake refuses user svc: 390189 Role 'AUDITOR' specified in the connect string does not exist or not authorized. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.; correct SNOWFLAKE_ROLE, or GRANT ROLE AUDITOR TO USER svc`},
	{name: "a role that is granted", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader", "auditor")
		k.env["SNOWFLAKE_ROLE"] = "auditor"
	}, lines: `ok    role: AUDITOR, from SNOWFLAKE_ROLE`},
	{name: "a role in the wrong case", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader", `"Auditor"`)
		k.env["SNOWFLAKE_ROLE"] = "Auditor"
	}, lines: `fail  role: there is no role AUDITOR for the user, and there is "Auditor"; write SNOWFLAKE_ROLE="Auditor", with the double quotes if it has any: without them a role's name is in upper case`},
	{name: "a role in quotes that it does not need", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetRoles("svc", "loader")
		k.env["SNOWFLAKE_ROLE"] = `"loader"`
	}, lines: `fail  role: there is no role "loader" for the user, and there is LOADER; write SNOWFLAKE_ROLE=LOADER, with the double quotes if it has any: without them a role's name is in upper case`},
	{name: "a login name unlike the name", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.CreateUserWithLogin(`"Svc ETL"`, "etl@corp.example")
		account.SetPublicKey(`"Svc ETL"`, 2, &key.RSA().PublicKey)
		k.env["SNOWFLAKE_USER"] = "etl@corp.example"
	}, lines: `ok    snowflake login: user etl@corp.example, whose name in statements is "Svc ETL", with OLD
ok    public key: RSA_PUBLIC_KEY_2
ok    other slots: RSA_PUBLIC_KEY, free`},
	{name: "the name for the login name", spoil: func(k *task, account *localsnowflake.Server) {
		account.CreateUserWithLogin("svc_etl", "etl@corp.example")
		k.env["SNOWFLAKE_USER"] = "svc_etl"
	}, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc_etl: 394300 JWT token is invalid. JWT_TOKEN_INVALID_USER_IN_ISSUER [ID]; check SNOWFLAKE_USER: the account has no user with this LOGIN_NAME, which need not be the user's name (DESC USER shows both)` + noLogin},
	{name: "a named key pair", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.AddKeyPair("svc", "etl", &key.RSA().PublicKey)
	}, lines: `ok    public key: the named key pair ETL
ok    other slots: RSA_PUBLIC_KEY, free; RSA_PUBLIC_KEY_2, free`},
	{name: "a key pair that was rotated, and its key still in use", spoil: func(k *task, account *localsnowflake.Server) {
		key, err := keyfile.Read("internal/decrypt/testdata/rsa.pem")
		k.must(err)
		account.UnsetPublicKey("svc", 1)
		account.AddKeyPair("svc", "etl", &key.RSA().PublicKey)
		other, err := keyfile.Read("testdata/next.pem")
		k.must(err)
		port, err := strconv.Atoi(k.env["SNOWFLAKE_PORT"])
		k.must(err)
		client := &snowflake.Client{Account: "local", Login: "svc", Protocol: "http", Host: k.env["SNOWFLAKE_HOST"], Port: port, UserAgent: "test"}
		k.must(client.Change(k.t.Context(), key, snowflake.RotateKeyPair("SVC", "ETL", keygen.PublicKey(other), 24)))
	}, lines: `warn  public key: the named key pair ETL_ROTATED_AT, which expires in 24h0m0s, since it was rotated to ETL; complete the rotation before: sidecar rotate --key-pair ETL
ok    other slots: RSA_PUBLIC_KEY, free; RSA_PUBLIC_KEY_2, free`},
	{name: "a user whose name needs quotes", spoil: func(k *task, account *localsnowflake.Server) {
		account.CreateUser("svc-etl")
		k.env["SNOWFLAKE_USER"] = "svc-etl"
	}, lines: `fail  snowflake login: Snowflake refuses the key OLD for user svc-etl: 394304 JWT token is invalid. JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH [ID]; compare it with DESC USER "svc-etl", and assign it: ALTER USER "svc-etl" SET RSA_PUBLIC_KEY_2='...'` + noLogin},
	{name: "an old key", spoil: func(k *task, account *localsnowflake.Server) {
		account.SetClockOffset(-100*24*time.Hour - time.Hour)
		k.assign(account, 1, "internal/decrypt/testdata/rsa.pem")
		account.SetClockOffset(0)
	}, lines: `warn  key age: set 100 days ago; rotate it: keys should be replaced after 90 days`},
	{name: "no Snowflake", spoil: ofTask(unset("SNOWFLAKE_ACCOUNT")), lines: `skip  snowflake host (SNOWFLAKE_ACCOUNT is not set)
skip  snowflake clock (SNOWFLAKE_ACCOUNT is not set)
skip  snowflake login (SNOWFLAKE_ACCOUNT is not set)
skip  public key (SNOWFLAKE_ACCOUNT is not set)
skip  key age (SNOWFLAKE_ACCOUNT is not set)
skip  other slots (SNOWFLAKE_ACCOUNT is not set)
skip  role (SNOWFLAKE_ACCOUNT is not set)`},
}

func noSnowflake(host string) string {
	if host == "" {
		host = `fail  snowflake host: http://snowflake.invalid:PORT: no such host; correct SNOWFLAKE_HOST, or leave it out: the account has a host of its own`
	}
	return host + `
skip  snowflake clock (snowflake host failed)
skip  snowflake login (snowflake host failed)
skip  public key (snowflake host failed)
skip  key age (snowflake host failed)
skip  other slots (snowflake host failed)
skip  role (snowflake host failed)`
}

// noSuchHost is a name of which a name server says that there is no such host. Without a network none does.
func noSuchHost(t *testing.T) string {
	t.Helper()
	const name = "snowflake.invalid"
	_, err := net.LookupHost(name)
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
		t.Skipf("no name server answers: %v", err)
	}
	return name
}
