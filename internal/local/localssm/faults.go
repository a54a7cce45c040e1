package localssm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Call is one request that the server understood, whatever it answered. A retry is a call of its own.
type Call struct {
	Action         string   // such as GetParameters
	Names          []string // as the caller wrote them: selectors and ARNs included
	WithDecryption bool
	Again          bool // the SDK sent it again by itself, for want of an answer that it could read
	Time           time.Time
}

// Calls returns every call so far, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Decrypts returns how many SecureString values have been decrypted: at AWS, each is a call of KMS.
func (s *Server) Decrypts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decrypts
}

type hook func(Call) *Fault

// faults are the faults that are switched on. The sets hold canonical names and aliases.
type faults struct {
	denied        map[string]bool
	undecryptable map[string]bool
	keyDisabled   map[string]bool
	unreadable    map[string]bool
	throttled     int
	intercept     hook
}

func newFaults() faults {
	return faults{denied: map[string]bool{}, undecryptable: map[string]bool{}, keyDisabled: map[string]bool{}, unreadable: map[string]bool{}}
}

// DenyParameter makes every action on the parameter fail as if IAM did not allow it. One denied name
// fails a whole GetParameters.
func (s *Server) DenyParameter(name string) {
	s.change(func(f *faults) { f.denied[s.canonical(name)] = true })
}

// DenyDecrypt makes decryption of the parameter fail as if the caller lacked kms:Decrypt. Reading its
// ciphertext goes on working.
func (s *Server) DenyDecrypt(name string) {
	s.change(func(f *faults) { f.undecryptable[s.canonical(name)] = true })
}

// DisableKMSKey disables the KMS key with this alias: parameters that use it can be neither decrypted nor stored. With
// the name of a parameter, decryption of that one fails as if its KMS key were disabled.
func (s *Server) DisableKMSKey(name string) {
	s.change(func(f *faults) { f.keyDisabled[s.canonical(name)] = true })
}

// DenySecret makes a reference to Secrets Manager fail as if the caller lacked secretsmanager:GetSecretValue.
func (s *Server) DenySecret(reference string) {
	s.change(func(f *faults) { f.unreadable[s.canonical(reference)] = true })
}

// Throttle makes the next n calls fail with ThrottlingException.
func (s *Server) Throttle(n int) {
	s.change(func(f *faults) { f.throttled = n })
}

// Intercept lets h see every call before it is answered. The result of h is the answer, or only a delay if it has no
// Code; nil lets the call through. A nil h removes the hook.
func (s *Server) Intercept(h func(Call) *Fault) {
	s.change(func(f *faults) { f.intercept = h })
}

// Allow undoes DenyParameter, DenyDecrypt, DisableKMSKey and DenySecret for the parameter or KMS key.
func (s *Server) Allow(name string) {
	s.change(func(f *faults) {
		for _, set := range []map[string]bool{f.denied, f.undecryptable, f.keyDisabled, f.unreadable} {
			delete(set, s.canonical(name))
		}
	})
}

// ClearFaults undoes every fault.
func (s *Server) ClearFaults() {
	s.change(func(f *faults) { *f = newFaults() })
}

func (s *Server) change(apply func(*faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	apply(&s.faults)
}

// before runs the hook, which may take its time: the server is not locked.
func (h hook) before(ctx context.Context, call Call) *Fault {
	if h == nil {
		return nil
	}
	fault := h(call)
	if fault == nil {
		return nil
	}
	if !fault.wait(ctx) {
		return &Fault{Code: "RequestTimeout"} // nobody is left to read it
	}
	if fault.Code == "" {
		return nil
	}
	return fault
}

// admit answers with the faults that AWS finds before it reads any parameter.
func (s *Server) admit(call Call) *Fault {
	if s.faults.throttled > 0 {
		s.faults.throttled--
		return &Fault{Code: "ThrottlingException", Message: "Rate exceeded"}
	}
	for _, name := range call.Names {
		if key := s.canonical(name); s.faults.denied[key] {
			return s.notAuthorized(call.Action, key)
		}
	}
	return nil
}

func (s *Server) notAuthorized(action, name string) *Fault {
	return &Fault{Code: "AccessDeniedException", Message: fmt.Sprintf(
		"User: %[1]s is not authorized to perform: ssm:%[2]s on resource: %[3]s because no identity-based policy allows the ssm:%[2]s action",
		s.calling.arn(s.account), action, s.parameterARN(name))}
}

// decryptable answers for KMS, which SSM calls as the caller.
func (s *Server) decryptable(name string, key *kmsKey) *Fault {
	if s.faults.undecryptable[name] {
		return &Fault{Code: "AccessDeniedException", Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. " + fromKMS("AccessDeniedException")}
	}
	if s.faults.keyDisabled[name] {
		return s.disabled(key)
	}
	return s.enabled(key)
}

// secretReadable answers for Secrets Manager, which SSM calls as the caller.
func (s *Server) secretReadable(name string) *Fault {
	switch {
	case s.faults.unreadable[name]:
		return &Fault{Code: "AccessDeniedException", Message: fmt.Sprintf(
			"User: %s is not authorized to perform: secretsmanager:GetSecretValue on resource: %s because no identity-based policy allows the secretsmanager:GetSecretValue action ",
			s.calling.arn(s.account), strings.TrimPrefix(name, secretPrefix)) + from("AWSSecretsManager", "AccessDeniedException")}
	case s.faults.undecryptable[name], s.faults.keyDisabled[name]:
		return &Fault{Code: "AccessDeniedException", Message: "Access to KMS is not allowed " + from("AWSSecretsManager", "AccessDeniedException")}
	}
	return nil
}

// fromKMS is how SSM marks a message that it passes on from KMS.
func fromKMS(code string) string { return from("AWSKMS", code) }

func from(service, code string) string {
	return fmt.Sprintf("(Service: %s; Status Code: 400; Error Code: %s; Request ID: %s; Proxy: null)", service, code, newID())
}
