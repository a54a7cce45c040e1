package localssm

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// temporaryPrefix begins the ID of an access key that needs a session token.
const temporaryPrefix = "ASIA"

// A session is temporary credentials of a role.
type session struct {
	role, name       string
	accessKey        string
	secretKey, token string
	expires          time.Time
}

func (t session) arn(account string) string {
	return "arn:aws:sts::" + account + ":assumed-role/" + t.role + "/" + t.name
}

func (t session) id() string { return "AROAEXAMPLE:" + t.name }

// issue makes the credentials of a session. The server is locked.
func (s *Server) issue(role, name string, lifetime time.Duration) session {
	if s.lifetime > 0 {
		lifetime = s.lifetime
	}
	t := session{
		role: role, name: name,
		accessKey: temporaryPrefix + rand.Text()[:16],
		secretKey: rand.Text() + rand.Text()[:14],
		token:     "IQoJb3JpZ2lu" + rand.Text() + rand.Text(),
		expires:   s.now().Add(lifetime),
	}
	s.sessions[t.accessKey] = t
	return t
}

// Credentials are a session's, as the credentials endpoint of ECS and the agent of EKS write them in JSON.
type Credentials struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	AccountID       string `json:"AccountId"`
	Expiration      time.Time
}

func (t session) credentials(account string) Credentials {
	return Credentials{t.accessKey, t.secretKey, t.token, account, t.expires.UTC()}
}

// IssueCredentials makes a session of a role, for a test that answers for AWS's endpoint itself.
func (s *Server) IssueCredentials(role, name string, lifetime time.Duration) Credentials {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(role, name, lifetime).credentials(s.account)
}

// SetSessionLifetime makes the sessions that are issued from now on end after d, whatever was requested; 0 undoes it.
// AWS gives none of less than 15 minutes.
func (s *Server) SetSessionLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// ExpireSessions ends all sessions that were issued so far. Their owners were told a later time.
func (s *Server) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, t := range s.sessions {
		t.expires = s.now()
		s.sessions[key] = t
	}
}

// Secrets are the secret keys and tokens of all sessions, which no program may print.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, t := range s.sessions {
		all = append(all, t.secretKey, t.token)
	}
	return all
}

// tokenCodes are the codes of the refusals of a session, which differ between SSM and STS.
type tokenCodes struct {
	status                      int
	invalid, expired, signature string
}

var (
	ssmTokenCodes = tokenCodes{http.StatusBadRequest, "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"}
	stsTokenCodes = tokenCodes{http.StatusForbidden, "InvalidClientTokenId", "ExpiredToken", "SignatureDoesNotMatch"}
)

// signer is the session that signed a request. Any key that is not temporary stands for a session of the one role that
// always exists. The server is locked.
func (s *Server) signer(r *http.Request, body []byte, codes tokenCodes) (session, *Fault) {
	key, token := signedKey(r), r.Header.Get("X-Amz-Security-Token")
	invalid := &Fault{Status: codes.status, Code: codes.invalid, Message: "The security token included in the request is invalid."}
	if !strings.HasPrefix(key, temporaryPrefix) {
		if token != "" {
			return session{}, invalid
		}
		return session{role: "app-task", name: "session"}, nil
	}
	t, found := s.sessions[key]
	switch {
	case !found, t.token != token:
		return session{}, invalid
	case !s.now().Before(t.expires):
		return session{}, &Fault{Status: codes.status, Code: codes.expired, Message: "The security token included in the request is expired"}
	case !signedBy(r, body, t.secretKey):
		return session{}, &Fault{Status: codes.status, Code: codes.signature, Message: signatureMismatch}
	}
	return t, nil
}

// signedKey is the ID of the access key in the scope of a signature.
func signedKey(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	return key
}
