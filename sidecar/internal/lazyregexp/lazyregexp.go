// Package lazyregexp compiles regular expressions when they are first used: a start pays only for those that it needs.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New gives a function that returns the compiled expression. An invalid one panics, as in [regexp.MustCompile].
func New(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
