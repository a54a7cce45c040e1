// Package failure gives an error its class, for status.json, metrics and the exit code, and one piece of advice for its
// reader. It also redacts texts: of other programs, of libraries, and of settings.
//
// It never logs and never retries: callers decide by the class.
package failure

import (
	"errors"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// An Error is a cause, its class, and what to do. It prints as "cause; what to do".
type Error struct {
	Class  keyfile.ErrorClass
	Advice string
	err    error
}

// New classifies err. The advice stands last in the message, where the reader acts on it.
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

// Class returns the class that [New] gave the error, or keyfile.ClassOther.
func Class(err error) keyfile.ErrorClass {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return keyfile.ClassOther
}

// Attributes returns the attributes of a log line about err: the error without its advice, its class, and the advice.
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

// KeyRefusals are the classes of errors about a key that was fetched.
var KeyRefusals = []keyfile.ErrorClass{keyfile.ClassUnreadableKey, keyfile.ClassPassphrase, keyfile.ClassSnowflake}

// KeyRefused reports whether err is about a key that was fetched.
func KeyRefused(err error) bool { return slices.Contains(KeyRefusals, Class(err)) }

// Permanent reports whether a retry cannot help until a parameter, a permission or the key is changed.
func Permanent(err error) bool {
	switch Class(err) {
	case keyfile.ClassNotFound, keyfile.ClassAccessDenied, keyfile.ClassKMS:
		return true
	default:
		return KeyRefused(err)
	}
}
