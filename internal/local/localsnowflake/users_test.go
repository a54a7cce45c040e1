package localsnowflake_test

import (
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

func TestUser_LoginNameUnlikeName(t *testing.T) {
	a := newAccount(t)
	a.CreateUserWithLogin(`"Svc ""ETL"""`, "etl@corp.example")
	a.SetPublicKey(`"Svc ""ETL"""`, 1, &newKey().PublicKey)
	as := func(login, sql string) statement {
		subject := "LOCAL." + login
		headers := a.headers(newKey())
		headers.Set("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, newKey(), claims(newKey(), jwt.MapClaims{
			"iss": subject + "." + localsnowflake.Fingerprint(&newKey().PublicKey), "sub": subject,
			"iat": a.clock.now().Unix(), "exp": a.clock.now().Unix() + 60,
		})))
		return a.call(http.MethodPost, localsnowflake.EndpointStatements, headers, map[string]any{"statement": sql})
	}
	if out := as("ETL@CORP.EXAMPLE", "SELECT CURRENT_USER()"); len(out.Data) != 1 || out.Data[0][0] != `Svc "ETL"` {
		t.Errorf("%+v", out)
	}
	as(`SVC "ETL"`, "SELECT 1").want(t, http.StatusUnauthorized, localsnowflake.JWTInvalidUserInIssuer)
	as("ETL@CORP.EXAMPLE", `DESC USER "etl@corp.example"`).want(t, http.StatusUnprocessableEntity, localsnowflake.ObjectNotFound)
	found := map[string]string{}
	for _, row := range as("ETL@CORP.EXAMPLE", `DESC USER "Svc ""ETL"""`).Data {
		found[row[0]] = row[1]
	}
	if found["NAME"] != `Svc "ETL"` || found["LOGIN_NAME"] != "ETL@CORP.EXAMPLE" {
		t.Errorf("%v", found)
	}
	cfg := a.config(newKey())
	cfg.User = "etl@corp.example"
	if user := queryString(t, a.open(cfg), "SELECT CURRENT_USER()"); user != `Svc "ETL"` {
		t.Errorf("a driver is user %s", user)
	}
	if logins := a.Logins(); logins[0].User != `Svc "ETL"` {
		t.Errorf("%+v", logins[0])
	}
}
