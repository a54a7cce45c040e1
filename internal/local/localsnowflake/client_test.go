package localsnowflake_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rsa"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
)

// claims are those of a JWT that is accepted, with some changed. A nil removes the claim.
func claims(key *rsa.PrivateKey, changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now().Unix()
	all := jwt.MapClaims{
		"iss": "LOCAL.SVC." + localsnowflake.Fingerprint(&key.PublicKey),
		"sub": "LOCAL.SVC",
		"iat": now,
		"exp": now + 60,
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func token(t testing.TB, key *rsa.PrivateKey) string {
	t.Helper()
	return sign(t, jwt.SigningMethodRS256, key, claims(key, nil))
}

// answer is the union of what the endpoints answer.
type answer struct {
	status int

	Success bool
	Code    string
	Message string
	Data    struct {
		Token, MasterToken, SessionToken, QueryID, SQLState, GetResultURL string
		SessionID                                                         int64
		RowSet                                                            [][]string
	}
}

type client struct {
	t      testing.TB
	url    string
	token  string
	gzip   bool
	master string
}

func (a *account) client() *client { return &client{t: a.t, url: a.url} }

// post answers only if there is an answer.
func (c *client) post(path string, body any) (answer, error) {
	c.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, c.encode(encoded))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	request.Header.Set("Authorization", `Snowflake Token="`+c.token+`"`)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	out := answer{status: response.StatusCode}
	content, err := io.ReadAll(response.Body)
	if err == nil && len(content) > 0 {
		err = json.Unmarshal(content, &out)
	}
	return out, err
}

func (c *client) encode(body []byte) io.Reader {
	if !c.gzip {
		return bytes.NewReader(body)
	}
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	w.Write(body)
	w.Close()
	return &compressed
}

func (c *client) mustPost(path string, body any) answer {
	c.t.Helper()
	out, err := c.post(path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *client) login(token string) answer {
	c.t.Helper()
	return c.mustPost(localsnowflake.EndpointLogin, map[string]any{
		"data": map[string]any{"ACCOUNT_NAME": "local", "AUTHENTICATOR": "SNOWFLAKE_JWT", "TOKEN": token},
	})
}

// open logs in and keeps the tokens.
func (c *client) open() *client {
	c.t.Helper()
	out := c.login(token(c.t, oldKey()))
	if !out.Success {
		c.t.Fatalf("login: %+v", out)
	}
	c.token, c.master = out.Data.Token, out.Data.MasterToken
	return c
}

func (c *client) query(parameters, sql string) answer {
	c.t.Helper()
	return c.mustPost(localsnowflake.EndpointQuery+parameters, map[string]any{"sqlText": sql})
}

func (c *client) renew(master string) answer {
	c.t.Helper()
	holder := *c
	holder.token = master
	return holder.mustPost(localsnowflake.EndpointRenew, map[string]any{"oldSessionToken": c.token, "requestType": "RENEW"})
}

func (a answer) want(t *testing.T, code localsnowflake.Code) {
	t.Helper()
	if a.Success || a.Code != code.String() || a.status != http.StatusOK || a.Message == "" {
		t.Errorf("got %+v, want code %v", a, code)
	}
}
