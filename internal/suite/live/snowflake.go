package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// quotedName asks Snowflake for the name of a user whose name needs quotes.
func (t *trial) quotedName(ctx context.Context) error {
	key, err := t.currentKey()
	if err != nil {
		return err
	}
	public, err := publicText(key.RSA())
	if err != nil {
		return err
	}
	name, login := strings.ToLower(t.object())+" quoted", t.object()+"_QUOTED"
	create := fmt.Sprintf(`CREATE USER "%s" TYPE = SERVICE LOGIN_NAME = '%s' DEFAULT_ROLE = %s RSA_PUBLIC_KEY = '%s'`, name, login, t.object(), public)
	if err := t.create(ctx, "the user "+name, create, fmt.Sprintf(`DROP USER IF EXISTS "%s"`, name)); err != nil {
		return err
	}
	withDefault := t.openPool(key.RSA(), login, "")
	defer withDefault.Close()
	refused := ping(ctx, withDefault)
	t.observe(ctx, "default role", slices.Contains(roleRefusals, snowflakeCode(refused)), "%s", codeOrOK(refused))
	_, err = t.admin.ExecContext(ctx, fmt.Sprintf(`DESC USER "%s"`, strings.Repeat("n", 256)))
	t.observe(ctx, "long identifier", snowflakeCode(err) == syntaxError, "%s", codeOrOK(err))
	db := t.openPool(key.RSA(), login, "PUBLIC")
	defer db.Close()
	answer, err := rows(ctx, db, "SELECT CURRENT_USER() AS name")
	if err != nil {
		return err
	}
	if len(answer) != 1 {
		return fmt.Errorf("CURRENT_USER() has %d rows", len(answer))
	}
	quoted := answer[0]["name"] == `"`+name+`"`
	t.observe(ctx, "CURRENT_USER() of a quoted name", quoted || answer[0]["name"] == name, "with the quotes: %t", quoted)
	return nil
}

// currentKey is the key in use: of the running task, or before that of the step once.
func (t *trial) currentKey() (*keyfile.Key, error) {
	key, err := keyfile.Read(filepath.Join(t.taskDir(), keyfile.DER.FileName()))
	if err == nil {
		return key, nil
	}
	return keyfile.Read(filepath.Join(t.path("once"), keyfile.DER.FileName()))
}

// restrictedKeyPair logs in by a key pair of another role, and rotates it with EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=0.
func (t *trial) restrictedKeyPair(ctx context.Context) error {
	private, public, err := newKey()
	if err != nil {
		return err
	}
	fingerprint, err := keyfile.Fingerprint(&private.PublicKey)
	if err != nil {
		return err
	}
	add := fmt.Sprintf("ALTER USER %s ADD KEY PAIR RESTRICTED PUBLIC_KEY='%s' ROLE_RESTRICTION='%s'", t.object(), public, t.object())
	if _, err := t.admin.ExecContext(ctx, add); err != nil {
		return err
	}
	allowed := t.openPool(private, t.login(), t.object())
	defer allowed.Close()
	if err := ping(ctx, allowed); err != nil {
		return fmt.Errorf("the key pair does not log in with its own role: %w", err)
	}
	db := t.openPool(private, t.login(), "PUBLIC")
	defer db.Close()
	refused := ping(ctx, db)
	t.observe(ctx, "restricted key pair", snowflakeCode(refused) == jwtInvalid, "%s", codeOrOK(refused))

	_, next, err := newKey()
	if err != nil {
		return err
	}
	rotate := fmt.Sprintf("ALTER USER %s ROTATE KEY PAIR RESTRICTED PUBLIC_KEY='%s' EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=0", t.object(), next)
	if _, err := t.admin.ExecContext(ctx, rotate); err != nil {
		return err
	}
	pairs, err := t.keyPairs(ctx)
	if err != nil {
		return err
	}
	status := "not listed"
	for _, p := range pairs {
		if p["fingerprint"] == fingerprint {
			status = p["status"]
		}
	}
	t.observe(ctx, "rotated with 0 hours", status == "DISABLED", "%s", status)
	return nil
}

// Codes of Snowflake.
const (
	jwtInvalid  = 390144
	syntaxError = 1003
)

// roleRefusals are for a role that is not granted, or not there.
var roleRefusals = []int{390186, 390189}

// newKey is a private key, and its public key as statements have it.
func newKey() (*rsa.PrivateKey, string, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
	if err != nil {
		return nil, "", err
	}
	public, err := publicText(private)
	return private, public, err
}

// publicText is the public key of a pair as statements have it.
func publicText(private *rsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	return base64.StdEncoding.EncodeToString(der), err
}

// networkPolicy lets nobody in, and sends the SQL API a statement.
func (t *trial) networkPolicy(ctx context.Context) error {
	if t.snowflake.isEmulated() {
		return skipped("the emulator of Snowflake has no network policies")
	}
	key, err := t.currentKey()
	if err != nil {
		return err
	}
	if status, _, err := t.sqlAPI(ctx, key); err != nil || status != http.StatusOK {
		return fmt.Errorf("without a network policy the SQL API answers %d: %w", status, err)
	}
	policy := t.object() + "_NOBODY"
	if err := t.create(ctx, "the network policy "+policy, fmt.Sprintf("CREATE NETWORK POLICY %s ALLOWED_IP_LIST = ('192.0.2.1')", policy),
		"DROP NETWORK POLICY IF EXISTS "+policy); err != nil {
		return err
	}
	unset := fmt.Sprintf("ALTER USER IF EXISTS %s UNSET NETWORK_POLICY", t.object())
	if err := t.create(ctx, "the network policy from the user", fmt.Sprintf("ALTER USER %s SET NETWORK_POLICY = %s", t.object(), policy), unset); err != nil {
		return err
	}
	status, code, err := t.sqlAPI(ctx, key)
	if err != nil {
		return err
	}
	t.observe(ctx, "network policy", status == http.StatusForbidden, "status %d, code %s", status, code)
	_, err = t.admin.ExecContext(ctx, unset)
	return err
}

// sqlAPI sends a statement as the sidecar does, and returns the status and Snowflake's code.
func (t *trial) sqlAPI(ctx context.Context, key *keyfile.Key) (status int, code string, err error) {
	account, err := identity.ParseAccount(t.snowflake.Account)
	if err != nil {
		return 0, "", err
	}
	subject := account.Name() + "." + t.login()
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": subject + "." + key.Fingerprint(), "sub": subject, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}).SignedString(key.RSA())
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.snowflake.url(account)+"/api/v2/statements", bytes.NewReader(encodeJSON(map[string]any{"statement": "SELECT 1"})))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT",
		"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "snowkey-live",
	} {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	var parsed struct{ Code string }
	_ = json.Unmarshal(body, &parsed) // a page has no code
	return answer.StatusCode, parsed.Code, err
}
