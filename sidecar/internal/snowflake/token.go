package snowflake

import (
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

const jwtLifetime = time.Minute

func (c *Client) token(key *keyfile.Key, now time.Time) (token string, err error) {
	secret.Do(func() { token, err = c.sign(key, now) })
	return token, err
}

func (c *Client) sign(key *keyfile.Key, now time.Time) (string, error) {
	// A private key for this signature: key.RSA would keep one for as long as there is the key.
	der := keyfile.DER.Encode(key)
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return "", errors.New("the login token could not be signed")
	}
	subject := c.Account.Name() + "." + strings.ToUpper(string(c.Login))
	signed, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": subject + "." + key.Fingerprint(),
		"sub": subject,
		"iat": now.Unix(),
		"exp": now.Add(jwtLifetime).Unix(),
	}).SignedString(private)
	if err != nil {
		return "", errors.New("the login token could not be signed")
	}
	return signed, nil
}
