package keyfile

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// StatusSchema is the version of status.json that this package describes. It goes up only when a
// field changes its meaning or leaves; a reader ignores fields that it does not know.
const StatusSchema = 1

// A Status is status.json: which key is on disk and how fresh it is. It holds no secret.
type Status struct {
	Schema      int       `json:"schema"`
	Fingerprint string    `json:"fingerprint,omitempty"` // of the key on disk, as DESC USER prints it; empty before the first
	Source      string    `json:"source"`                // the parameter's name or ARN, or "SECRET_KEY"
	Version     string    `json:"version,omitempty"`     // of the parameter; empty where there is none
	StoredAt    time.Time `json:"stored_at,omitzero"`    // when that version was stored; zero where SSM does not say
	PublishedAt time.Time `json:"published_at,omitzero"` // when this key was first written
	CheckedAt   time.Time `json:"checked_at,omitzero"`   // last look that succeeded
	Filesystem  string    `json:"filesystem"`            // of the directory: "tmpfs", "ext4", ...
	LastError   *Failure  `json:"last_error,omitempty"`  // nil when the last look succeeded, or none has ended yet
}

// A Failure is why the last look did not succeed. The key on disk is still the last good one.
type Failure struct {
	Class ErrorClass `json:"class"`
	At    time.Time  `json:"at"`
}

// An ErrorClass says what kind of thing went wrong, for alarms and dashboards.
type ErrorClass string

// The classes.
const (
	ClassNotFound      ErrorClass = "not_found"         // a parameter, version or label does not exist
	ClassAccessDenied  ErrorClass = "access_denied"     // IAM refused the call to SSM
	ClassKMS           ErrorClass = "kms"               // the KMS key refused or is disabled
	ClassThrottled     ErrorClass = "throttled"         // SSM's rate limit
	ClassCredentials   ErrorClass = "credentials"       // no AWS credentials
	ClassNetwork       ErrorClass = "network"           // SSM or Snowflake not reached in time
	ClassUnreadableKey ErrorClass = "unreadable_key"    // what was fetched is not a key that can be used
	ClassPassphrase    ErrorClass = "passphrase"        // missing or wrong
	ClassFilesystem    ErrorClass = "filesystem"        // the key could not be written
	ClassSnowflake     ErrorClass = "snowflake_refused" // --verify: Snowflake does not accept the key
	ClassOther         ErrorClass = "other"
)

// ErrorClasses are all the classes there are.
var ErrorClasses = []ErrorClass{
	ClassNotFound, ClassAccessDenied, ClassKMS, ClassThrottled, ClassCredentials, ClassNetwork,
	ClassUnreadableKey, ClassPassphrase, ClassFilesystem, ClassSnowflake, ClassOther,
}

// ReadStatus reads the status.json of a key directory. Like ReadBytes it never hangs on what is no regular file.
func ReadStatus(dir string) (Status, error) {
	data, err := readRegular(filepath.Join(dir, StatusName))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(data)
}

// ParseStatus takes the content of a status.json.
func ParseStatus(data []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(data, &s); err != nil {
		return Status{}, fmt.Errorf("%s: %w", StatusName, err)
	}
	if s.Schema != StatusSchema {
		return Status{}, fmt.Errorf("%s: schema %d, this program knows %d", StatusName, s.Schema, StatusSchema)
	}
	return s, nil
}
