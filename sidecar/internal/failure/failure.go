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
	Class  keyfile.ErrorClass
	Advice string
	err    error
}

// New classifies err. The advice stands last in the message, so it is what the reader acts on.
func New(class keyfile.ErrorClass, err error, advice string) *Error {
	return &Error{Class: class, Advice: advice, err: err}
}

func (e *Error) Error() string {
	if e.Advice == "" {
		return e.err.Error()
	}
	return e.err.Error() + "; " + e.Advice
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
	text, advice := err.Error(), ""
	if e, ok := errors.AsType[*Error](err); ok {
		advice = e.Advice
	}
	attributes := []any{"error", text, "class", Class(err)}
	if advice != "" {
		attributes[1] = strings.TrimSuffix(text, "; "+advice)
		attributes = append(attributes, "advice", advice)
	}
	return attributes
}

// Permanent reports whether trying again cannot help until somebody changes something.
func Permanent(err error) bool {
	switch Class(err) {
	case keyfile.ClassNotFound, keyfile.ClassAccessDenied, keyfile.ClassKMS,
		keyfile.ClassPassphrase, keyfile.ClassUnreadableKey, keyfile.ClassSnowflake:
		return true
	default:
		return false
	}
}
