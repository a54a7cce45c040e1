package keyfile

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// StatusSchema is the version of status.json that this package describes. It increases only when a
// field is removed or changes its meaning; readers ignore unknown fields.
const StatusSchema = 1

// A Status is the content of status.json: which key is published and how fresh it is. It holds no secret. Its
// times are in UTC and have the form of RFC 3339 in the file.
//
// The status.json of a directory that holds the directories of several keys has Keys and no fingerprint.
type Status struct {
	Schema      int       `json:"schema"`                // StatusSchema
	Keys        []string  `json:"keys,omitempty"`        // the names of the keys, which are those of subdirectories
	Fingerprint string    `json:"fingerprint,omitempty"` // of the published key, as Key.Fingerprint gives it; empty before the first key
	Source      string    `json:"source,omitempty"`      // an ARN, with ":" and a version or label if the user named one, or "SECRET_KEY SHA256:..."; empty while it is not known
	Version     string    `json:"version,omitempty"`     // the parameter's version or the secret's version id; empty if there is none
	Formats     []Format  `json:"formats,omitempty"`     // the formats that are published
	Serve       []Format  `json:"serve,omitempty"`       // the formats of the sockets
	Connections bool      `json:"connections,omitempty"` // the key has a connection in connections.toml, here or, of several keys, in the directory above
	Publishing  *Coming   `json:"publishing,omitempty"`  // the key whose files are about to replace those of Fingerprint; nil once they have
	StoredAt    time.Time `json:"stored_at,omitzero"`    // when that version was stored in AWS; zero if SSM does not say
	PublishedAt time.Time `json:"published_at,omitzero"` // when this key was first written; zero before the first key
	CheckedAt   time.Time `json:"checked_at,omitzero"`   // the last refresh that succeeded; zero before the first
	Filesystem  string    `json:"filesystem"`            // type of the directory's file system: "tmpfs", "ext4", ...
	LastError   *Failure  `json:"last_error,omitempty"`  // nil when the last refresh succeeded, and before the first has ended
}

// A Coming is a key that is being published. A sidecar that was killed in between knows its files by it.
type Coming struct {
	Source      string   `json:"source"`
	Fingerprint string   `json:"fingerprint"`
	Formats     []Format `json:"formats"`
}

// A Failure says why the last refresh failed. The published key is still the last valid one.
type Failure struct {
	Class ErrorClass `json:"class"`
	At    time.Time  `json:"at"`
	Since time.Time  `json:"since,omitzero"` // the first failure in a row; a row of its own for ClassLocked
}

// An ErrorClass is the kind of a failure, for alarms and dashboards. The log has the text.
type ErrorClass string

// The error classes.
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
	ClassLocked        ErrorClass = "locked"            // another sidecar, or another program, has locked the directory
	ClassSnowflake     ErrorClass = "snowflake_refused" // --verify: Snowflake does not accept the key
	ClassOther         ErrorClass = "other"
)

// ErrorClasses are all error classes.
var ErrorClasses = []ErrorClass{
	ClassNotFound, ClassAccessDenied, ClassKMS, ClassThrottled, ClassCredentials, ClassNetwork,
	ClassUnreadableKey, ClassPassphrase, ClassFilesystem, ClassLocked, ClassSnowflake, ClassOther,
}

// ReadStatus reads status.json in the key directory dir. Its errors name the file: fs.ErrNotExist,
// fs.ErrPermission, [ErrNotRegular], and those of [ParseStatus].
func ReadStatus(dir string) (Status, error) {
	data, err := readRegular(filepath.Join(dir, StatusName))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(data)
}

// ParseStatus reads the content of a status.json. A schema other than [StatusSchema] is an error.
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
