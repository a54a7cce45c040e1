package localsnowflake

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strings"
)

const (
	keyPairAuthenticator = "SNOWFLAKE_JWT"

	nodeClient = "JavaScript" // as snowflake-sdk names itself
)

type loginRequest struct {
	Data struct {
		LoginName     string          `json:"LOGIN_NAME"` // drivers may leave it to the JWT
		Authenticator string          `json:"AUTHENTICATOR"`
		Token         string          `json:"TOKEN"`
		Client        string          `json:"CLIENT_APP_ID"`
		Session       json.RawMessage `json:"SESSION_PARAMETERS"`
	} `json:"data"`
}

// autocommit is what the client asks for, true if it asks for nothing. Some drivers send a string.
func (in *loginRequest) autocommit() bool {
	var session struct {
		Autocommit json.RawMessage `json:"AUTOCOMMIT"`
	}
	_ = json.Unmarshal(in.Data.Session, &session) // of another form, it asks for nothing
	return !strings.EqualFold(strings.Trim(string(session.Autocommit), `"`), "false")
}

type loginData struct {
	Token          string         `json:"token"`
	MasterToken    string         `json:"masterToken"`
	Validity       int64          `json:"validityInSeconds"`
	MasterValidity int64          `json:"masterValidityInSeconds"`
	DisplayUser    string         `json:"displayUserName"`
	ServerVersion  string         `json:"serverVersion"`
	SessionID      int64          `json:"sessionId"`
	Parameters     []parameter    `json:"parameters"`
	SessionInfo    sessionContext `json:"sessionInfo"`
}

type parameter struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// sessionParameters are the parameters that drivers want to be told: the JDBC driver cannot do without AUTOCOMMIT.
func (s *Server) sessionParameters(autocommit bool) []parameter {
	parameters := []parameter{
		{"AUTOCOMMIT", autocommit},
		{"TIMEZONE", "UTC"},
		{"CLIENT_TELEMETRY_ENABLED", false},
	}
	if s.engine != nil {
		// Bindings come with the statement, however many they are: the engine does not find them in a stage. 0 would
		// say so to all drivers but Node's.
		parameters = append(parameters, parameter{"CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", math.MaxInt32})
	}
	return parameters
}

func (s *Server) login(c *call) response {
	var in loginRequest
	if c.decode(&in) != nil {
		return c.fail(failed(InvalidPayload))
	}
	token := parseJWT(in.Data.Token)
	c.User, c.Fingerprint = s.users.nameOf(token.user), token.fingerprint
	if out := s.interrupt(c); out != nil {
		return *out
	}
	if !pause(c.ctx, s.loginLatency.get()) {
		return response{drop: true}
	}
	if !strings.EqualFold(in.Data.Authenticator, keyPairAuthenticator) {
		return c.fail(s.refuse(c, IncorrectCredentials))
	}
	if code := s.verifyLogin(in, token); code != 0 {
		return c.fail(s.refuse(c, code))
	}
	context, valid := requestedContext(c.query)
	if !valid {
		return response{status: http.StatusBadRequest, raw: "Not a valid SQL Identifier."}
	}
	role, refused := s.assume(c, context.Role)
	if refused != nil {
		s.record(c, refused.code)
		return c.fail(refused)
	}
	context.Role = role
	return s.openSession(c, &session{
		autocommit: s.engine == nil || in.autocommit(),
		noArrow:    in.Data.Client == nodeClient,
		context:    context,
	})
}

// requestedContext is what the client asks for, with names as USE would read them. It is not valid if one is too long.
func requestedContext(query url.Values) (requested sessionContext, valid bool) {
	for parameter, into := range map[string]*string{
		"databaseName": &requested.Database, "schemaName": &requested.Schema,
		"warehouse": &requested.Warehouse, "roleName": &requested.Role,
	} {
		name := query.Get(parameter)
		if !fits(name) {
			return sessionContext{}, false
		}
		*into = unquoted(name)
	}
	return requested, true
}

func (s *Server) verifyLogin(in loginRequest, token keyPairJWT) Code {
	if code := s.verify(token, maxLoginAge); code != 0 {
		return code
	}
	if name := in.Data.LoginName; name != "" && !strings.EqualFold(name, token.user) {
		return JWTInvalidUserInIssuer
	}
	return 0
}

// refuse records a login that failed and says what the client is told.
func (s *Server) refuse(c *call, code Code) *failure {
	s.record(c, code)
	switch {
	case code == IncorrectCredentials, code == UserLocked:
		return failed(code)
	case code == UserDisabled:
		return &failure{code: code, message: "User access disabled. Contact your local system administrator."}
	case s.generic:
		return refusedToken(JWTInvalid)
	}
	return refusedToken(code)
}

func (s *Server) openSession(c *call, opened *session) response {
	opened.user, opened.fingerprint, opened.openedAt = c.User, c.Fingerprint, s.clock()
	tokens := s.sessions.open(opened, s.sessionValidity.get(), s.masterValidity.get())
	c.SessionID = opened.id
	s.record(c, 0)
	s.used(c.User, c.Fingerprint)
	return succeed(loginData{
		Token:          tokens.token,
		MasterToken:    tokens.master,
		Validity:       s.sessionValidity.seconds(),
		MasterValidity: s.masterValidity.seconds(),
		DisplayUser:    opened.user,
		ServerVersion:  s.version,
		SessionID:      opened.id,
		Parameters:     s.sessionParameters(opened.autocommit),
		SessionInfo:    opened.context,
	})
}
