package localssm

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const assumeRoleWithWebIdentity = "AssumeRoleWithWebIdentity"

// An identityProvider is an OpenID Connect provider of the account.
type identityProvider struct {
	key       *rsa.PublicKey
	audiences map[string]bool
}

// A Trust is what the trust policy of a role allows: tokens of an issuer with this subject and audience, and whether EKS
// may assume the role for Pod Identity. Its zero value trusts nothing.
type Trust struct {
	Issuer, Subject, Audience string
	PodIdentity               bool
}

// TrustIssuer makes an issuer an OpenID Connect provider of the account: tokens that key signed for one of the audiences.
// A second call replaces the key and the audiences, as when the issuer has a new key.
func (s *Server) TrustIssuer(issuer string, key *rsa.PublicKey, audiences ...string) {
	p := identityProvider{key: key, audiences: map[string]bool{}}
	for _, audience := range audiences {
		p.audiences[audience] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.providers[issuer] = p
}

// PutRole makes a role, or changes its trust policy, and returns its ARN. A role may read every parameter.
func (s *Server) PutRole(name string, trust Trust) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[name] = trust
	return s.roleARN(name)
}

func (s *Server) roleARN(name string) string { return "arn:aws:iam::" + s.account + ":role/" + name }

// roleOf is the name in the ARN of a role, and whether the account has that role.
func (s *Server) roleOf(arn string) (name string, trust Trust, found bool) {
	name, own := strings.CutPrefix(arn, s.roleARN(""))
	if !own {
		return "", Trust{}, false
	}
	trust, found = s.roles[name]
	return name, trust, found
}

var (
	roleARNPattern     = regexp.MustCompile(`^arn:aws:iam::\d{12}:role/[\w+=,.@/-]+$`)
	sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]*$`)
)

// The limits of STS.
const (
	minSession, maxSession = 900, 43200 // seconds
	defaultSession         = 3600       // and the longest of a role that does not say otherwise
	maxToken               = 20000
)

// assume answers AssumeRoleWithWebIdentity. The server is locked.
func (s *Server) assume(form url.Values) (any, *Fault) {
	lifetime, fault := validAssume(form)
	if fault != nil {
		return nil, fault
	}
	claims, fault := s.identity(form.Get("RoleArn"), form.Get("WebIdentityToken"))
	if fault != nil {
		return nil, fault
	}
	name, trust, found := s.roleOf(form.Get("RoleArn"))
	if !found || trust.Issuer != claims.Issuer || trust.Subject != claims.Subject || trust.Audience != claims.Audience[0] {
		return nil, notAuthorizedToAssume()
	}
	issued := s.issue(name, form.Get("RoleSessionName"), lifetime)
	return newWebIdentityOutput(issued, claims, s.account), nil
}

func notAuthorizedToAssume() *Fault {
	return &Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Not authorized to perform sts:" + assumeRoleWithWebIdentity}
}

func validAssume(form url.Values) (lifetime time.Duration, fault *Fault) {
	role, session, token := form.Get("RoleArn"), form.Get("RoleSessionName"), form.Get("WebIdentityToken")
	switch {
	case len(role) < 20:
		return 0, unsatisfiedSTS(role, "roleArn", "Member must have length greater than or equal to 20")
	case !roleARNPattern.MatchString(role):
		return 0, invalidSTS("Request ARN is invalid")
	case len(session) < 2:
		return 0, unsatisfiedSTS(session, "roleSessionName", "Member must have length greater than or equal to 2")
	case len(session) > 64:
		return 0, unsatisfiedSTS(session, "roleSessionName", "Member must have length less than or equal to 64")
	case !sessionNamePattern.MatchString(session):
		return 0, unsatisfiedSTS(session, "roleSessionName", `Member must satisfy regular expression pattern: [\w+=,.@-]*`)
	case len(token) < 4:
		return 0, unsatisfiedSTS(token, "webIdentityToken", "Member must have length greater than or equal to 4")
	case len(token) > maxToken:
		return 0, unsatisfiedSTS(token, "webIdentityToken", fmt.Sprintf("Member must have length less than or equal to %d", maxToken))
	case !form.Has("DurationSeconds"):
		return defaultSession * time.Second, nil
	}
	written := form.Get("DurationSeconds")
	seconds, err := strconv.Atoi(written)
	switch {
	case err != nil, seconds < minSession:
		return 0, unsatisfiedSTS(written, "durationSeconds", fmt.Sprintf("Member must have value greater than or equal to %d", minSession))
	case seconds > maxSession:
		return 0, unsatisfiedSTS(written, "durationSeconds", fmt.Sprintf("Member must have value less than or equal to %d", maxSession))
	case seconds > defaultSession:
		return 0, invalidSTS("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return time.Duration(seconds) * time.Second, nil
}

func unsatisfiedSTS(value, member, constraint string) *Fault {
	return invalidSTS(fmt.Sprintf("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, member, constraint))
}

func invalidSTS(message string) *Fault { return &Fault{Code: "ValidationError", Message: message} }

// identity checks a token. The provider is one of the role's account.
func (s *Server) identity(role, token string) (jwt.RegisteredClaims, *Fault) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return claims, invalidToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	provider, found := s.providers[claims.Issuer]
	if !found || !strings.HasPrefix(role, s.roleARN("")) {
		return claims, invalidToken("No OpenIDConnect provider found in your account for " + claims.Issuer)
	}
	now := s.now()
	err := verify(token, provider.key, now)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return claims, &Fault{Code: "ExpiredTokenException", Message: fmt.Sprintf(
			"Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), claims.ExpiresAt.Unix())}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return claims, invalidToken("Couldn't retrieve verification key from your identity provider,  please reference " +
			assumeRoleWithWebIdentity + " documentation for requirements")
	case err != nil:
		return claims, invalidToken("Missing a required claim, or a claim that does not hold yet")
	case len(claims.Audience) != 1 || !provider.audiences[claims.Audience[0]]:
		return claims, invalidToken("Incorrect token audience")
	}
	return claims, nil
}

func invalidToken(message string) *Fault {
	return &Fault{Code: "InvalidIdentityToken", Message: message}
}

// verify checks signature and times. A token without an expiration is refused.
func verify(token string, key *rsa.PublicKey, now time.Time) error {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	_, err := parser.ParseWithClaims(token, &jwt.RegisteredClaims{}, func(*jwt.Token) (any, error) { return key, nil })
	return err
}
