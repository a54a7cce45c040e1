package localssm

import (
	"encoding/xml"
	"net/http"
)

// The one call to STS that is answered, for clients that set AWS_ENDPOINT_URL_STS to this endpoint as well: whose
// credentials these are, which AWS tells every caller that has some.
const getCallerIdentity = "GetCallerIdentity"

func isSTS(r *http.Request) bool {
	return r.Header.Get("X-Amz-Target") == "" && r.PostFormValue("Action") == getCallerIdentity
}

type callerIdentity struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Result  struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	} `xml:"GetCallerIdentityResult"`
	RequestID string `xml:"ResponseMetadata>RequestId"`
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

func (s *Server) answerSTS(w http.ResponseWriter, r *http.Request) {
	call := Call{Action: getCallerIdentity, Time: s.now()}
	w.Header().Set("Content-Type", "text/xml")
	fault := s.unsigned(r)
	if fault == nil {
		fault = s.record(call).before(r.Context(), call)
	}
	if fault != nil {
		w.WriteHeader(fault.status())
		_ = xml.NewEncoder(w).Encode(stsError{Type: "Sender", Code: fault.Code, Message: fault.Message, RequestID: newID()})
		return
	}
	out := callerIdentity{RequestID: newID()}
	out.Result.Arn, out.Result.UserID, out.Result.Account = s.caller(), "AROAEXAMPLE:session", s.account
	_ = xml.NewEncoder(w).Encode(out)
}
