package localsnowflake

import (
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxLoginAge is how old a JWT may be when it opens a session.
	maxLoginAge = time.Minute
	// maxStatementAge is how old it may be in the SQL API, which takes the same one again and again.
	maxStatementAge = time.Hour
	// maxClockSkew is how far ahead of this clock the clock of a client may be.
	maxClockSkew = 30 * time.Second
)

// keyPairJWT is what a JWT says, before anything in it has been verified.
type keyPairJWT struct {
	algorithm   string
	account     string
	user        string // a login name
	fingerprint string
	subject     string
	issuedAt    time.Time
	expiresAt   time.Time
	signed      string
	signature   []byte
}

// parseJWT returns nothing if the text is no JWT at all.
func parseJWT(text string) keyPairJWT {
	claims := jwt.MapClaims{}
	token, parts, err := jwt.NewParser().ParseUnverified(text, claims)
	if errors.Is(err, jwt.ErrTokenMalformed) {
		return keyPairJWT{}
	}
	out := keyPairJWT{
		issuedAt:  claimedTime(claims["iat"]),
		expiresAt: claimedTime(claims["exp"]),
		signed:    parts[0] + "." + parts[1],
		signature: token.Signature,
	}
	out.algorithm, _ = token.Header["alg"].(string)
	out.subject, _ = claims["sub"].(string)
	issuer, _ := claims["iss"].(string)
	out.account, out.user, out.fingerprint = splitIssuer(issuer)
	return out
}

// splitIssuer takes ACCOUNT.USER.SHA256:fingerprint apart. An account has no dot, a user may have some.
func splitIssuer(issuer string) (account, user, fingerprint string) {
	account, rest, _ := strings.Cut(issuer, ".")
	i := strings.LastIndex(rest, ".SHA256:")
	if i < 0 {
		return account, "", ""
	}
	return account, rest[:i], rest[i+1:]
}

// claimedTime reads iat and exp. The Node driver writes milliseconds; the zero time is for none at all.
func claimedTime(claim any) time.Time {
	n, ok := claim.(float64)
	if !ok {
		return time.Time{}
	}
	if n > 1e11 {
		return time.UnixMilli(int64(n))
	}
	return time.Unix(int64(n), 0)
}

// verify returns why the JWT is refused, or 0. A JWT older than maxAge is.
func (s *Server) verify(token keyPairJWT, maxAge time.Duration) Code {
	if token.signed == "" {
		return JWTInvalid
	}
	if token.algorithm != jwt.SigningMethodRS256.Alg() {
		return JWTInvalidAlgorithm
	}
	if token.issuedAt.IsZero() || token.expiresAt.IsZero() {
		return JWTMissingTime
	}
	holder, exists := s.users.findLogin(token.user)
	if code := s.verifySigner(token, holder, exists); code != 0 {
		return code
	}
	if code := token.verifyTime(s.clock(), maxAge); code != 0 {
		return code
	}
	return holder.barred(s.clock())
}

func (s *Server) verifySigner(token keyPairJWT, holder user, exists bool) Code {
	if token.account != s.account {
		return JWTAccountMismatch
	}
	if !exists || token.subject != token.account+"."+token.user {
		return JWTInvalidUserInIssuer
	}
	key := holder.key(token.fingerprint, s.clock())
	if key == nil {
		return JWTFingerprintMismatch
	}
	if jwt.SigningMethodRS256.Verify(token.signed, token.signature, key.rsa) != nil {
		return JWTInvalidSignature
	}
	return 0
}

func (t keyPairJWT) verifyTime(now time.Time, maxAge time.Duration) Code {
	if age := now.Sub(t.issuedAt); age > maxAge || age < -maxClockSkew {
		return JWTInvalidIssueTime
	}
	if !now.Before(t.expiresAt) {
		return JWTInvalidExpirationTime
	}
	return 0
}
