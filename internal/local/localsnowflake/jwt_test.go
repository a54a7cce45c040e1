package localsnowflake_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

func TestJWTs(t *testing.T) {
	a := newAccount(t)
	now := time.Now()
	millis := now.UnixMilli()
	signer := localsnowflake.Fingerprint(&oldKey().PublicKey)
	for name, test := range map[string]struct {
		changes jwt.MapClaims
		want    localsnowflake.Code
	}{
		"seconds":            {nil, 0},
		"milliseconds":       {jwt.MapClaims{"iat": millis, "exp": millis + 120_000}, 0},
		"old milliseconds":   {jwt.MapClaims{"iat": millis - 90_000, "exp": millis + 30_000}, localsnowflake.JWTInvalidIssueTime},
		"almost too old":     {jwt.MapClaims{"iat": now.Unix() - 55}, 0},
		"too old":            {jwt.MapClaims{"iat": now.Unix() - 65}, localsnowflake.JWTInvalidIssueTime},
		"a little early":     {jwt.MapClaims{"iat": now.Unix() + 10}, 0},
		"too early":          {jwt.MapClaims{"iat": now.Unix() + 60}, localsnowflake.JWTInvalidIssueTime},
		"no issue time":      {jwt.MapClaims{"iat": nil}, localsnowflake.JWTMissingTime},
		"no expiration":      {jwt.MapClaims{"exp": nil}, localsnowflake.JWTMissingTime},
		"expiration as text": {jwt.MapClaims{"exp": "soon"}, localsnowflake.JWTMissingTime},
		"expired":            {jwt.MapClaims{"iat": now.Unix() - 10, "exp": now.Unix() - 5}, localsnowflake.JWTInvalidExpirationTime},
		"account":            {jwt.MapClaims{"iss": "REMOTE.SVC." + signer, "sub": "REMOTE.SVC"}, localsnowflake.JWTAccountMismatch},
		"region":             {jwt.MapClaims{"iss": "LOCAL.EU-WEST-1.SVC." + signer}, localsnowflake.JWTInvalidUserInIssuer},
		"user":               {jwt.MapClaims{"iss": "LOCAL.NOBODY." + signer, "sub": "LOCAL.NOBODY"}, localsnowflake.JWTInvalidUserInIssuer},
		"lower case":         {jwt.MapClaims{"iss": "LOCAL.svc." + signer, "sub": "LOCAL.svc"}, localsnowflake.JWTInvalidUserInIssuer},
		"subject":            {jwt.MapClaims{"sub": "LOCAL.OTHER"}, localsnowflake.JWTInvalidUserInIssuer},
		"no issuer":          {jwt.MapClaims{"iss": nil}, localsnowflake.JWTAccountMismatch},
		"no fingerprint":     {jwt.MapClaims{"iss": "LOCAL.SVC"}, localsnowflake.JWTInvalidUserInIssuer},
		"fingerprint":        {jwt.MapClaims{"iss": "LOCAL.SVC.SHA256:AAAA"}, localsnowflake.JWTFingerprintMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			out := a.client().login(sign(t, jwt.SigningMethodRS256, oldKey(), claims(oldKey(), test.changes)))
			if test.want != 0 {
				out.want(t, test.want)
				return
			}
			if !out.Success || out.Data.Token == "" || out.Data.MasterToken == "" || out.Data.SessionID == 0 {
				t.Errorf("got %+v", out)
			}
		})
	}
}

func TestJWT_Signatures(t *testing.T) {
	a := newAccount(t)
	good := token(t, oldKey())
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token string
		want  localsnowflake.Code
	}{
		"of another key": {sign(t, jwt.SigningMethodRS256, otherKey(), claims(oldKey(), nil)), localsnowflake.JWTInvalidSignature},
		"of other text":  {good[:strings.LastIndex(good, ".")+1] + strings.Split(sign(t, jwt.SigningMethodRS256, oldKey(), claims(oldKey(), jwt.MapClaims{"x": 1})), ".")[2], localsnowflake.JWTInvalidSignature},
		"missing":        {good[:strings.LastIndex(good, ".")+1], localsnowflake.JWTInvalidSignature},
		"RS512":          {sign(t, jwt.SigningMethodRS512, oldKey(), claims(oldKey(), nil)), localsnowflake.JWTInvalidAlgorithm},
		"HS256":          {sign(t, jwt.SigningMethodHS256, []byte("secret"), claims(oldKey(), nil)), localsnowflake.JWTInvalidAlgorithm},
		"ES256":          {sign(t, jwt.SigningMethodES256, curve, claims(oldKey(), nil)), localsnowflake.JWTInvalidAlgorithm},
		"none":           {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(oldKey(), nil)), localsnowflake.JWTInvalidAlgorithm},
		"unheard of":     {"eyJhbGciOiJYWCJ9." + strings.SplitN(good, ".", 2)[1], localsnowflake.JWTInvalidAlgorithm},
		"no JWT":         {"secret", localsnowflake.JWTInvalid},
		"nothing":        {"", localsnowflake.JWTInvalid},
		"garbage":        {"a.b.c", localsnowflake.JWTInvalid},
	} {
		t.Run(name, func(t *testing.T) { a.client().login(test.token).want(t, test.want) })
	}
	if n := a.Counters().LoginsRefused; n != 11 {
		t.Errorf("%d logins refused, want 11", n)
	}
	if open := a.Sessions(); len(open) != 0 {
		t.Errorf("sessions: %+v", open)
	}
}

func TestJWT_UserMustBeTheLoginName(t *testing.T) {
	a := newAccount(t)
	for name, want := range map[string]localsnowflake.Code{"SVC": 0, "svc": 0, "OTHER": localsnowflake.JWTInvalidUserInIssuer} {
		out := a.client().mustPost(localsnowflake.EndpointLogin, map[string]any{
			"data": map[string]any{"LOGIN_NAME": name, "AUTHENTICATOR": "snowflake_jwt", "TOKEN": token(t, oldKey())},
		})
		if out.Success != (want == 0) || (want != 0 && out.Code != want.String()) {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestJWT_UserMayHaveADotInItsName(t *testing.T) {
	a := newAccount(t)
	a.CreateUser("first.last@example.com")
	a.SetPublicKey("FIRST.LAST@EXAMPLE.COM", 2, &newKey().PublicKey)
	user := "LOCAL.FIRST.LAST@EXAMPLE.COM"
	out := a.client().login(sign(t, jwt.SigningMethodRS256, newKey(), claims(newKey(), jwt.MapClaims{
		"iss": user + "." + localsnowflake.Fingerprint(&newKey().PublicKey), "sub": user,
	})))
	if !out.Success {
		t.Errorf("got %+v", out)
	}
}

func TestLogins(t *testing.T) {
	a := newAccount(t, localsnowflake.WithHistory(2))
	for range 3 {
		a.client().login("no JWT")
	}
	a.client().open()
	logins := a.Logins()
	if len(logins) != 2 || logins[0].Code != localsnowflake.JWTInvalid || logins[1].Code != 0 || logins[1].User != "SVC" {
		t.Errorf("logins: %+v", logins)
	}
	if n := a.LoginCount("", localsnowflake.JWTInvalid); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	if n := a.LoginCount(localsnowflake.Fingerprint(&oldKey().PublicKey), 0); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}
