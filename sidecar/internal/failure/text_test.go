package failure

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText_IsOneCleanLine(t *testing.T) {
	for sent, want := range map[string]string{
		"":                                "",
		"JWT token is invalid.":           "JWT token is invalid.",
		"Schlüssel ungültig: 鍵が無効":        "Schlüssel ungültig: 鍵が無効",
		"a\r\n{\"level\":\"ERROR\"}\n":    `a {"level":"ERROR"}`,
		"  two\t\tcolumns\u00a0\u2028b  ": "two columns b",
		"\x1b[2J\x1b]0;title\x07gone":     "[2J]0;titlegone",
		"\u009b31mC1 \x7fDEL \x00NUL":     "31mC1 DEL NUL",
		"abc\u202egnp.\u2066exe\u200b":    "abcgnp.exe",
		"half a character \xe2\x82":       "half a character \ufffd\ufffd",
	} {
		if got := Text(sent); got != want {
			t.Errorf("%q: %q, want %q", sent, got, want)
		}
	}
}

func TestText_IsCut(t *testing.T) {
	for _, length := range []int{maxText - 1, maxText} {
		whole := strings.Repeat("é", length)
		if got := Text(whole); got != whole {
			t.Errorf("%d characters: %d are left", length, utf8.RuneCountInString(got))
		}
	}
	got := Text(strings.Repeat("é", 4<<20))
	if n := utf8.RuneCountInString(got); n != maxText+len("...") || !strings.HasSuffix(got, "é...") {
		t.Errorf("4 million characters: %d are left, which end in %q", n, got[len(got)-10:])
	}
}

func TestClean_KeepsTheCause(t *testing.T) {
	err := Clean(fmt.Errorf("malformed line \x1b[2J: %w", io.ErrUnexpectedEOF))
	if err.Error() != "malformed line [2J: unexpected EOF" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q", err)
	}
}
