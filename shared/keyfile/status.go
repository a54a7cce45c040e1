package keyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// StatusSchema is the version of status.json that this package describes. It increases only when a field is removed or
// changes its meaning. New fields do not change it: readers ignore those that they do not know.
const StatusSchema = 1

// A Status is the content of status.json: which key is published and when it was last checked. It holds no secret. Times
// are in UTC, in the file in the form of RFC 3339.
//
// If the sidecar publishes several keys, each has a subdirectory with a status.json of its own. The one in the directory
// above has Keys, and no Fingerprint.
type Status struct {
	Schema      int         `json:"schema"`                // StatusSchema
	Keys        []string    `json:"keys,omitempty"`        // the names of several keys: those of their subdirectories
	Fingerprint string      `json:"fingerprint,omitempty"` // of the published key: see Key.Fingerprint; empty before the first key
	Source      string      `json:"source,omitempty"`      // an ARN, with ":" and a version or label if one was set, or "SECRET_KEY SHA256:..."; empty while unknown
	Version     string      `json:"version,omitempty"`     // the parameter's version or the secret's version id; empty if there is none
	Formats     []Format    `json:"formats,omitempty"`     // of the key files
	Serve       []Format    `json:"serve,omitempty"`       // of the sockets
	Connections bool        `json:"connections,omitempty"` // connections.toml has a connection with the key; with several keys it is in the directory above
	Publishing  *PendingKey `json:"publishing,omitempty"`  // the key whose files are about to replace those of Fingerprint; nil when they have
	StoredAt    time.Time   `json:"stored_at,omitzero"`    // when this version was stored in AWS; zero if unknown
	PublishedAt time.Time   `json:"published_at,omitzero"` // when this key was first written here; zero before the first key
	CheckedAt   time.Time   `json:"checked_at,omitzero"`   // end of the last refresh that succeeded; zero before the first
	Filesystem  string      `json:"filesystem"`            // type of the directory's file system: "tmpfs", "ext4", ...
	LastError   *LastError  `json:"last_error,omitempty"`  // of the last refresh; nil if it succeeded, and before the first
}

// A PendingKey is a key that the sidecar is publishing. After a crash the next sidecar recognizes its files by it.
type PendingKey struct {
	Source      string   `json:"source"`
	Fingerprint string   `json:"fingerprint"`
	Formats     []Format `json:"formats"`
}

// A LastError says why the last refresh failed. The published key stays the last valid one.
type LastError struct {
	Class ErrorClass `json:"class"`
	At    time.Time  `json:"at"`
	Since time.Time  `json:"since,omitzero"` // when the first of the failures in a row was; ClassLocked begins a row of its own
}

// An ErrorClass is the kind of a [LastError], for alarms and dashboards. The sidecar's log has the whole error.
type ErrorClass string

// The error classes.
const (
	ClassNotFound      ErrorClass = "not_found"         // a parameter, version or label does not exist
	ClassAccessDenied  ErrorClass = "access_denied"     // IAM refused the call to SSM
	ClassKMS           ErrorClass = "kms"               // the KMS key refused or is disabled
	ClassThrottled     ErrorClass = "throttled"         // SSM's rate limit
	ClassCredentials   ErrorClass = "credentials"       // no AWS credentials
	ClassNetwork       ErrorClass = "network"           // SSM or Snowflake not reached in time
	ClassUnreadableKey ErrorClass = "unreadable_key"    // the value that was fetched is not a valid key
	ClassPassphrase    ErrorClass = "passphrase"        // the passphrase is missing or wrong
	ClassFilesystem    ErrorClass = "filesystem"        // the key could not be written
	ClassLocked        ErrorClass = "locked"            // another sidecar, or another program, has locked the directory
	ClassSnowflake     ErrorClass = "snowflake_refused" // --verify: Snowflake does not accept the key
	ClassOther         ErrorClass = "other"
)

// ErrorClasses are all error classes. Do not change it.
var ErrorClasses = []ErrorClass{
	ClassNotFound, ClassAccessDenied, ClassKMS, ClassThrottled, ClassCredentials, ClassNetwork,
	ClassUnreadableKey, ClassPassphrase, ClassFilesystem, ClassLocked, ClassSnowflake, ClassOther,
}

// The errors of [ParseStatus].
var (
	// ErrNotStatus: the content is not a status.json, or has more than MaxSize bytes.
	ErrNotStatus = errors.New("not a status.json")
	// ErrUnknownSchema: the schema is not StatusSchema, so this version of the package cannot read the file.
	ErrUnknownSchema = errors.New("unknown schema of status.json")
)

// ReadStatus reads status.json in the key directory dir. Its errors name the file. They are [fs.ErrNotExist],
// [fs.ErrPermission], [ErrNotRegular], those of [ParseStatus], and otherwise the system's.
func ReadStatus(dir string) (Status, error) {
	data, err := readRegular(filepath.Join(dir, StatusName))
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: %w", ErrNotStatus, err)
	}
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(data)
}

// ParseStatus reads the content of a status.json. Its errors are [ErrNotStatus] and [ErrUnknownSchema].
func ParseStatus(data []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(data, &s); err != nil {
		return Status{}, fmt.Errorf("%w: %w", ErrNotStatus, err)
	}
	if s.Schema != StatusSchema {
		return Status{}, fmt.Errorf("%w: %d, and this program knows %d; update it", ErrUnknownSchema, s.Schema, StatusSchema)
	}
	return s, nil
}
