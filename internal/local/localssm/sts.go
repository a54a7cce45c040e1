package localssm

import (
	"encoding/xml"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The two calls to STS that are answered, for clients that set AWS_ENDPOINT_URL_STS to this endpoint as well:
// GetCallerIdentity, which every caller with credentials may make, and AssumeRoleWithWebIdentity.
const getCallerIdentity = "GetCallerIdentity"

func isSTS(r *http.Request) bool {
	action := r.PostFormValue("Action")
	return r.Header.Get("X-Amz-Target") == "" && (action == getCallerIdentity || action == assumeRoleWithWebIdentity)
}

type callerIdentityOutput struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Result  struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	} `xml:"GetCallerIdentityResult"`
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

type webIdentityOutput struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Result  struct {
		SubjectFromWebIdentityToken string
		Audience                    string
		AssumedRoleUser             struct{ Arn, AssumedRoleId string }
		Credentials                 struct {
			SessionToken, SecretAccessKey, Expiration, AccessKeyId string
		}
		Provider string
	} `xml:"AssumeRoleWithWebIdentityResult"`
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

func newWebIdentityOutput(t session, claims jwt.RegisteredClaims, account string) webIdentityOutput {
	out := webIdentityOutput{RequestID: newID()}
	r := &out.Result
	r.SubjectFromWebIdentityToken, r.Audience, r.Provider = claims.Subject, claims.Audience[0], claims.Issuer
	r.AssumedRoleUser.Arn, r.AssumedRoleUser.AssumedRoleId = t.arn(account), t.id()
	r.Credentials.AccessKeyId, r.Credentials.SecretAccessKey, r.Credentials.SessionToken = t.accessKey, t.secretKey, t.token
	r.Credentials.Expiration = t.expires.UTC().Format(time.RFC3339)
	return out
}

type stsError struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

// unsigned refuses a request without a signature for this Region, as STS does.
func (s *Server) unsigned(r *http.Request) *Fault {
	if r.Header.Get("Authorization") == "" {
		return &Fault{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token", 0}
	}
	if region := signedRegion(r); region != s.region {
		return &Fault{Status: http.StatusForbidden, Code: "SignatureDoesNotMatch", Message: foreignRegion(region)}
	}
	return nil
}

func (s *Server) answerSTS(w http.ResponseWriter, r *http.Request, body []byte) {
	out, fault := s.doSTS(r, body)
	w.Header().Set("Content-Type", "text/xml")
	if fault != nil {
		w.WriteHeader(fault.status())
		out = stsError{Type: "Sender", Code: fault.Code, Message: fault.Message, RequestID: newID()}
	}
	_ = xml.NewEncoder(w).Encode(out) // an error here means that the client has gone
}

// doSTS answers both calls. GetCallerIdentity needs a signature, the other none.
func (s *Server) doSTS(r *http.Request, body []byte) (any, *Fault) {
	call := Call{Action: r.PostForm.Get("Action"), Again: sentAgain(r), Time: s.now()}
	if call.Action == assumeRoleWithWebIdentity {
		call.Names = []string{r.PostForm.Get("RoleArn")}
	} else if fault := s.unsigned(r); fault != nil {
		return nil, fault
	}
	if fault := s.record(call).before(r.Context(), call); fault != nil {
		return nil, fault
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if call.Action == assumeRoleWithWebIdentity {
		return s.assume(r.PostForm)
	}
	return s.callerIdentity(r, body)
}

func (s *Server) callerIdentity(r *http.Request, body []byte) (any, *Fault) {
	t, fault := s.signer(r, body, stsTokenCodes)
	if fault != nil {
		return nil, fault
	}
	out := callerIdentityOutput{RequestID: newID()}
	out.Result.Arn, out.Result.UserID, out.Result.Account = t.arn(s.account), t.id(), s.account
	return out, nil
}
