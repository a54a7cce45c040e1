package failure

import (
	"strings"
	"unicode"
)

// maxText is in characters. The longest messages of AWS and Snowflake that say something, such as a refusal with two
// ARNs, are shorter than 400.
const maxText = 500

// Text makes what another side has sent fit for a log and a terminal: one line of at most 500 characters of valid
// UTF-8, without control characters and without the invisible ones that change the direction of writing. "..."
// follows a text that was cut.
func Text(sent string) string {
	var out strings.Builder
	length, gap := 0, 0
	for _, r := range sent { // U+FFFD for a byte that is no UTF-8
		switch {
		case unicode.IsSpace(r):
			gap = min(1, length)
		case !unicode.IsPrint(r):
		case length+gap >= maxText:
			return out.String() + "..."
		default:
			out.WriteString(" "[:gap])
			out.WriteRune(r)
			length, gap = length+gap+1, 0
		}
	}
	return out.String()
}

// Clean is err with its message as [Text] makes it. It is for errors that repeat what another side has sent, such as
// those of net/http about a malformed answer.
func Clean(err error) error { return cleaned{err} }

type cleaned struct{ error }

func (c cleaned) Error() string { return Text(c.error.Error()) }

func (c cleaned) Unwrap() error { return c.error }
