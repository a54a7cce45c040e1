package localsnowflake

import (
	"fmt"
	"strconv"
)

// Code is one of Snowflake's error codes. 0 is success.
type Code int

// The codes by which Snowflake refuses a login, a token or the headers of the SQL API.
const (
	IncorrectCredentials     Code = 390100
	AuthorizationMissing     Code = 390101 // without a JWT, in the SQL API
	UserDisabled             Code = 390101 // Snowflake uses the code twice
	UserLocked               Code = 390102
	SessionTokenInvalid      Code = 390104
	SessionGone              Code = 390111
	SessionExpired           Code = 390112
	MasterTokenNotFound      Code = 390113
	MasterTokenExpired       Code = 390114
	MasterTokenInvalid       Code = 390115
	InvalidPayload           Code = 390142
	JWTInvalid               Code = 390144
	RoleNotGranted           Code = 390186
	RoleNotFound             Code = 390189
	OAuthAccessTokenInvalid  Code = 390303
	NetworkPolicyDenied      Code = 390422
	RequestRateExceeded      Code = 390701
	UnsupportedAccept        Code = 391902
	UserAgentMissing         Code = 391903
	JWTInvalidUserInIssuer   Code = 394300
	JWTMissingTime           Code = 394301
	JWTInvalidIssueTime      Code = 394302
	JWTInvalidExpirationTime Code = 394303
	JWTFingerprintMismatch   Code = 394304
	JWTInvalidAlgorithm      Code = 394305
	JWTInvalidSignature      Code = 394306
	JWTAccountMismatch       Code = 394307
)

// The codes of a statement.
const (
	StatementNotPrepared     Code = 7 // drivers then do without a description
	StatementCountMismatch   Code = 8
	ExecutionFailed          Code = 603
	StatementCanceled        Code = 604
	StatementNotExecuting    Code = 605
	StatementTimedOut        Code = 630
	StatementNotFound        Code = 709
	StatementEmpty           Code = 900
	SyntaxError              Code = 1003
	InvalidValue             Code = 1008
	InvalidUserProperty      Code = 1420
	ObjectExists             Code = 2002
	ObjectNotFound           Code = 2003
	ColumnCountMismatch      Code = 2020
	NoSuchObject             Code = 2043 // for USE: of whatever kind
	BindVariableNotSet       Code = 2049
	AccessDenied             Code = 3001
	RoleNotAssigned          Code = 3013
	PublicKeyRejected        Code = 3535
	StatementSucceeded       Code = 90001
	StatementInProgress      Code = 333333
	StatementInProgressAsync Code = 333334
	StatementUnsupported     Code = 391911
)

var messages = map[Code]string{
	IncorrectCredentials:     "Incorrect username or password was specified.",
	AuthorizationMissing:     "Authorization header not found in the request data.",
	UserLocked:               "User temporarily locked. Try again later, or contact your local system administrator.",
	SessionTokenInvalid:      "User must login again to access the service.",
	SessionGone:              "Session no longer exists.  New login required to access the service.",
	SessionExpired:           "Session token has expired.  The session must be renewed.",
	MasterTokenNotFound:      "Master token was not found.  The user must authenticate again.",
	MasterTokenExpired:       "Authentication token has expired.  The user must authenticate again.",
	MasterTokenInvalid:       "Master token is invalid.  The user must authenticate again.",
	InvalidPayload:           "Incoming request does not contain a valid payload.",
	NetworkPolicyDenied:      "Incoming request with IP/Token 127.0.0.1 is not allowed to access Snowflake. Contact your local security administrator.",
	RequestRateExceeded:      "Request rate exceeds max. Try later.",
	OAuthAccessTokenInvalid:  "Invalid OAuth access token.",
	UserAgentMissing:         "The User-Agent header is required.",
	JWTInvalidUserInIssuer:   "JWT_TOKEN_INVALID_USER_IN_ISSUER",
	JWTMissingTime:           "JWT_TOKEN_MISSING_ISSUE_OR_EXPIRATION_TIME",
	JWTInvalidIssueTime:      "JWT_TOKEN_INVALID_ISSUE_TIME",
	JWTInvalidExpirationTime: "JWT_TOKEN_INVALID_EXPIRATION_TIME",
	JWTFingerprintMismatch:   "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH",
	JWTInvalidAlgorithm:      "JWT_TOKEN_INVALID_ALGORITHM",
	JWTInvalidSignature:      "JWT_TOKEN_INVALID_SIGNATURE",
	JWTAccountMismatch:       "JWT_TOKEN_ACCOUNT_MISMATCH",
	StatementUnsupported:     "Unsupported statement type outside of a request with multiple statements.",
	StatementCanceled:        "SQL execution canceled",
	StatementNotExecuting:    "Identified SQL statement is not currently executing.",
	StatementInProgress:      "Query execution in progress",
	StatementInProgressAsync: "Asynchronous execution in progress. Use provided query id to perform query monitoring and management.",
}

// String writes the code as Snowflake does, with six digits.
func (c Code) String() string { return fmt.Sprintf("%06d", int(c)) }

// MarshalJSON makes success null, as it is in answers to drivers.
func (c Code) MarshalJSON() ([]byte, error) {
	if c == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendQuote(nil, c.String()), nil
}

// failure is why a request or a statement failed.
type failure struct {
	code     Code
	sqlState string
	message  string
	final    bool // a SQL engine is not asked whether it can do better
}

func failed(code Code) *failure { return &failure{code: code, message: messages[code]} }

// refusedToken is the failure of a JWT. The UUID is what an administrator passes to
// SYSTEM$GET_LOGIN_FAILURE_DETAILS.
func refusedToken(code Code) *failure {
	message := "JWT token is invalid."
	if reason := messages[code]; reason != "" {
		message += " " + reason
	}
	return &failure{code: code, message: message + " [" + newUUID() + "]"}
}

func canceled() *failure {
	return &failure{code: StatementCanceled, sqlState: "57014", message: messages[StatementCanceled]}
}
