package localssm

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// PodIdentityAudience is the audience of a token for the agent.
const PodIdentityAudience = "pods.eks.amazonaws.com"

// podSession is how long EKS's credentials hold.
const podSession = 6 * time.Hour

// A PodIdentityAgent is the agent on the node of an EKS cluster, and EKS Auth behind it: an [http.Handler] for
// AWS_CONTAINER_CREDENTIALS_FULL_URI. AWS's is at 169.254.170.23, and refuses requests for any other host.
//
// It takes tokens of the cluster alone, in the header Authorization and without "Bearer". It never caches credentials.
type PodIdentityAgent struct {
	server *Server
	issuer string
	key    *rsa.PublicKey

	roles map[string]string // ARNs, by subject
}

// PodIdentityAgent makes the agent of a cluster, whose tokens key signs. Its sessions are the server's.
func (s *Server) PodIdentityAgent(issuer string, key *rsa.PublicKey) *PodIdentityAgent {
	return &PodIdentityAgent{server: s, issuer: issuer, key: key, roles: map[string]string{}}
}

// SetKey replaces the key of the cluster.
func (a *PodIdentityAgent) SetKey(key *rsa.PublicKey) {
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	a.key = key
}

// Associate gives a service account a role, and with "" none. The subject is system:serviceaccount:NAMESPACE:NAME.
func (a *PodIdentityAgent) Associate(subject, roleARN string) {
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	if roleARN == "" {
		delete(a.roles, subject)
		return
	}
	a.roles[subject] = roleARN
}

// ServeHTTP answers errors as text, as the agent does.
func (a *PodIdentityAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/credentials" {
		http.NotFound(w, r)
		return
	}
	call := Call{Action: "AssumeRoleForPodIdentity", Time: a.server.now()}
	fault := a.server.record(call).before(r.Context(), call)
	if fault != nil {
		fault = ofEKSAuth(fault.status(), fault.Code, fault.Message)
	}
	var issued session
	if fault == nil {
		issued, fault = a.assume(r.Header.Get("Authorization"))
	}
	if fault != nil {
		http.Error(w, fault.Message, fault.status())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(issued.credentials(a.server.account))
}

func (a *PodIdentityAgent) assume(token string) (session, *Fault) {
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if token == "" {
		return session{}, &Fault{Message: "Service account token cannot be empty"}
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return session{}, &Fault{Message: fmt.Sprintf("Service account token cannot be parsed: %v", err)}
	}
	switch err := verify(token, a.key, s.now()); {
	case errors.Is(err, jwt.ErrTokenExpired):
		return session{}, &Fault{Message: fmt.Sprintf("Service account token failed basic claim validations: %v", err)}
	case err != nil, claims.Issuer != a.issuer, len(claims.Audience) != 1, claims.Audience[0] != PodIdentityAudience:
		return session{}, ofEKSAuth(http.StatusBadRequest, "InvalidTokenException", "The token included in the request is invalid.")
	}
	role, found := a.roles[claims.Subject]
	if !found {
		return session{}, ofEKSAuth(http.StatusNotFound, "ResourceNotFoundException",
			"The token included in the request has no service account role association for it.")
	}
	name, trust, found := s.roleOf(role)
	if !found || !trust.PodIdentity {
		return session{}, ofEKSAuth(http.StatusBadRequest, "AccessDeniedException",
			"Unauthorized Exception! EKS does not have permissions to assume the associated role.")
	}
	return s.issue(name, "eks-local-pod-"+newID(), podSession), nil
}

// ofEKSAuth is an error of EKS Auth as the agent passes it on.
func ofEKSAuth(status int, code, message string) *Fault {
	side := "client"
	if status >= http.StatusInternalServerError {
		side = "server"
	}
	return &Fault{Status: status, Code: code, Message: fmt.Sprintf("[%s]: (%s): %s, fault: %s", newID(), code, message, side)}
}
