// Package localssm is SSM Parameter Store on a local HTTP endpoint. Tests, the demo and docker compose
// point the unmodified AWS SDK or CLI at it instead of at AWS.
//
// It answers as AWS does where a reader of parameters can tell the difference: selectors, ARNs, partial
// success, order, ciphertext, sizes, tiers, versions, labels, references to Secrets Manager, and the codes
// and words of errors. Denials, KMS failures, throttling and latency can be switched on while it runs.
//
// Its STS gives temporary credentials for tokens, and a [PodIdentityAgent] does the same; every call that is signed with
// them needs their session token and the right signature.
//
// It never talks to AWS, never writes to disk, never checks more of another signature than its Region, nor any policy of
// IAM but whom a role trusts, never applies the parameter policies that it stores, and does not know
// lookups by path. It is no place for a real secret.
package localssm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server is the endpoint. It is an http.Handler, and safe for concurrent use.
type Server struct {
	region  string
	account string
	now     func() time.Time

	mu         sync.Mutex
	keys       []*kmsKey             // alias/aws/ssm first
	parameters map[string]*parameter // by canonical name
	secrets    map[string]*secret    // by Secrets Manager's name of it
	providers  map[string]identityProvider
	roles      map[string]Trust   // by name
	sessions   map[string]session // by access key
	lifetime   time.Duration      // of a session, if it is set
	calling    session            // of the action under way
	faults     faults
	calls      []Call
	decrypts   int
}

// Option configures a Server.
type Option func(*Server)

// WithRegion sets the Region of every ARN and signature; us-east-1 without it.
func WithRegion(region string) Option { return func(s *Server) { s.region = region } }

// WithAccount sets the account of every ARN; 123456789012 without it.
func WithAccount(account string) Option { return func(s *Server) { s.account = account } }

// WithClock sets where LastModifiedDate and Call.Time come from; time.Now without it.
func WithClock(now func() time.Time) Option { return func(s *Server) { s.now = now } }

// New returns an empty Parameter Store.
func New(opts ...Option) *Server {
	s := &Server{
		region:     "us-east-1",
		account:    "123456789012",
		now:        time.Now,
		keys:       []*kmsKey{newKMSKey(defaultKeyID)},
		parameters: map[string]*parameter{},
		secrets:    map[string]*secret{},
		providers:  map[string]identityProvider{},
		roles:      map[string]Trust{},
		sessions:   map[string]session{},
		faults:     newFaults(),
	}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

const targetPrefix = "AmazonSSM."

var actions = map[string]func(*Server, request) (any, *Fault){
	"AddTagsToResource":     (*Server).addTagsToResource,
	"DeleteParameter":       (*Server).deleteParameter,
	"DeleteParameters":      (*Server).deleteParameters,
	"DescribeParameters":    (*Server).describeParameters,
	"GetParameter":          (*Server).getParameter,
	"GetParameterHistory":   (*Server).getParameterHistory,
	"GetParameters":         (*Server).getParameters,
	"LabelParameterVersion": (*Server).labelParameterVersion,
	"ListTagsForResource":   (*Server).listTagsForResource,
	"PutParameter":          (*Server).putParameter,
}

// ServeHTTP speaks AWS JSON 1.1 on any path, and as much of STS as tells a caller who it is and
// gives credentials for a token.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		return // the client has gone
	}
	if isSTS(r) {
		s.answerSTS(w, r, body)
		return
	}
	out, fault := s.answer(r, body)
	status := http.StatusOK
	if fault != nil {
		out, status = fault.body(), fault.status()
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", newID())
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // an error here means that the client has gone
}

// sentAgain reads the header by which an SDK counts its attempts, such as "attempt=2; max=3".
func sentAgain(r *http.Request) bool {
	attempt, counted := strings.CutPrefix(r.Header.Get("Amz-Sdk-Request"), "attempt=")
	return counted && !strings.HasPrefix(attempt, "1;") && attempt != "1"
}

// signedRegion is the Region in the scope of a signature, Credential=KEY/DATE/REGION/SERVICE/aws4_request.
func signedRegion(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope := strings.Split(credential, "/")
	if len(scope) < 5 {
		return ""
	}
	return scope[len(scope)-3]
}

func foreignRegion(region string) string {
	return "Credential should be scoped to a valid region, not '" + region + "'. "
}

// readBody reads to the end, without which net/http would not notice that a waiting client has gone. The body can be read
// again.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

func (s *Server) answer(r *http.Request, body []byte) (any, *Fault) {
	action, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	do, known := actions[action]
	if !known {
		return nil, &Fault{Code: "UnknownOperationException"}
	}
	if r.Header.Get("Authorization") == "" {
		return nil, &Fault{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	}
	if region := signedRegion(r); region != s.region {
		return nil, &Fault{Code: "InvalidSignatureException", Message: foreignRegion(region)}
	}
	caller, fault := s.caller(r, body)
	if fault != nil {
		return nil, fault
	}
	var in request
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &Fault{Code: "SerializationException"}
	}
	call := Call{Action: action, Names: in.names(), WithDecryption: in.WithDecryption, Again: sentAgain(r), Time: s.now()}
	if fault := s.record(call).before(r.Context(), call); fault != nil {
		return nil, fault
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calling = caller
	if fault := s.admit(call); fault != nil {
		return nil, fault
	}
	return do(s, in)
}

// caller is the session that signed a call of SSM.
func (s *Server) caller(r *http.Request, body []byte) (session, *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signer(r, body, ssmTokenCodes)
}

// record notes the call and returns the hook that sees it next.
func (s *Server) record(call Call) hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	return s.faults.intercept
}

// request is the union of what the actions take.
type request struct {
	Name             string
	Names            []string
	WithDecryption   bool
	Value            string
	Type             string
	Description      string
	KeyId            string
	DataType         string
	Tier             string
	Overwrite        bool
	AllowedPattern   string
	Policies         string
	Tags             []tag
	Labels           []string
	ParameterVersion int64
	ResourceType     string
	ResourceId       string
	ParameterFilters []filter
	MaxResults       *int
	NextToken        string
}

type tag struct{ Key, Value string }

type filter struct {
	Key    string
	Option string
	Values []string
}

// names returns every parameter that the request is about, as the caller wrote it.
func (in request) names() []string {
	switch {
	case in.Name != "":
		return []string{in.Name}
	case in.ResourceId != "":
		return []string{in.ResourceId}
	default:
		return in.Names
	}
}

// Fault is an error answer, in the service's own terms.
type Fault struct {
	Status  int    // HTTP status; 0 is 400
	Code    string // such as InternalServerError; "" answers as usual, after Delay
	Message string
	Delay   time.Duration // how long to wait before answering
}

func (f *Fault) Error() string { return f.Code + ": " + f.Message }

func (f *Fault) status() int {
	if f.Status == 0 {
		return http.StatusBadRequest
	}
	return f.Status
}

func (f *Fault) body() any {
	return struct {
		Type    string `json:"__type"`
		Message string `json:"message,omitempty"`
	}{f.Code, f.Message}
}

// wait reports whether the caller is still there after the fault's delay.
func (f *Fault) wait(ctx context.Context) bool {
	if f.Delay <= 0 {
		return true
	}
	select {
	case <-time.After(f.Delay):
		return true
	case <-ctx.Done():
		return false
	}
}

// newID returns a random version 4 UUID.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
