// Package failure gives an error that keeps a key from being published its class, which goes into
// status.json, metrics and the exit code, and the one thing that the reader can do about it.
package failure

import (
	"errors"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// An Error is a cause, its class, and what to do. It prints as "cause; what to do".
type Error struct {
	Class keyfile.ErrorClass
	Do    string
	err   error
}

// New classifies err. The text of do stands last in the message, so it is what the reader acts on.
func New(class keyfile.ErrorClass, err error, do string) *Error {
	return &Error{Class: class, Do: do, err: err}
}

func (e *Error) Error() string {
	if e.Do == "" {
		return e.err.Error()
	}
	return e.err.Error() + "; " + e.Do
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Class of an error: the one it was given, or keyfile.ClassOther.
func Class(err error) keyfile.ErrorClass {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return keyfile.ClassOther
}

// Attributes are those of a line of log about err: what happened, its class, and what to do, which stands
// last in its text.
func Attributes(err error) []any {
	text, do := err.Error(), ""
	if e, ok := errors.AsType[*Error](err); ok {
		do = e.Do
	}
	attributes := []any{"error", text, "class", Class(err)}
	if do != "" {
		attributes[1] = strings.TrimSuffix(text, "; "+do)
		attributes = append(attributes, "what_to_do", do)
	}
	return attributes
}

// ForGood reports whether trying again cannot help until somebody changes something.
func ForGood(err error) bool {
	switch Class(err) {
	case keyfile.ClassNotFound, keyfile.ClassAccessDenied, keyfile.ClassKMS,
		keyfile.ClassPassphrase, keyfile.ClassUnreadableKey, keyfile.ClassSnowflake:
		return true
	default:
		return false
	}
}
