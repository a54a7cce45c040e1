package localsnowflake

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	endOfText tokenKind = iota
	word                // an identifier or a keyword
	quoted              // an identifier in double quotes, text without them
	text                // a string, without its quotes and escapes
	number
	symbol
)

type lexeme struct {
	kind tokenKind
	text string
	at   int
}

// is tells whether the lexeme is one of the keywords.
func (l lexeme) is(keywords ...string) bool {
	return l.kind == word && slices.ContainsFunc(keywords, func(keyword string) bool { return strings.EqualFold(keyword, l.text) })
}

// isQuoted tells whether the lexeme is a string that stands in the SQL as it is, in quotes.
func (l lexeme) isQuoted(sql string) bool {
	return l.kind == text && strings.HasPrefix(sql[l.at:], "'"+l.text+"'")
}

// lex splits SQL into lexemes, the last of which is the end of the text.
func lex(sql string) ([]lexeme, *failure) {
	lexemes := make([]lexeme, 0, 8)
	for at := 0; ; {
		at = skipBlanks(sql, at)
		if at == len(sql) {
			return append(lexemes, lexeme{endOfText, "<EOF>", at}), nil
		}
		next, end := nextLexeme(sql, at)
		if end < 0 {
			return nil, parseFailure(sql, at, "parse error", fmt.Sprintf("near '%d'", len(sql)))
		}
		if (next.kind == word || next.kind == quoted) && !fits(next.text) {
			failure := parseFailure(sql, at, "parse error", "near an identifier of more than 255 characters")
			failure.final = true
			return nil, failure
		}
		lexemes = append(lexemes, next)
		at = end
	}
}

// maxName is how many characters an identifier may have. The limit is Snowflake's; code and text of the error are inferred.
const maxName = 255

// fits tells whether a name, in quotes or not, is short enough for an identifier.
func fits(name string) bool { return utf8.RuneCountInString(unquoted(name)) <= maxName }

// skipBlanks skips white space and comments.
func skipBlanks(sql string, at int) int {
	for at < len(sql) {
		rest := sql[at:]
		switch {
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "//"):
			at += lengthUntil(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			at += lengthUntil(rest, "*/")
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			at++
		default:
			return at
		}
	}
	return at
}

// lengthUntil is the length of what ends with the mark, or of everything.
func lengthUntil(s, mark string) int {
	if i := strings.Index(s, mark); i >= 0 {
		return i + len(mark)
	}
	return len(s)
}

// nextLexeme returns the lexeme and where it ends, -1 if it does not.
func nextLexeme(sql string, at int) (lexeme, int) {
	switch c := sql[at]; {
	case c == '\'':
		content, end := unquote(sql, at, true)
		return lexeme{text, content, at}, end
	case strings.HasPrefix(sql[at:], "$$"):
		content, end := dollarQuoted(sql, at)
		return lexeme{text, content, at}, end
	case c == '"':
		content, end := unquote(sql, at, false)
		return lexeme{quoted, content, at}, end
	case isDigit(c):
		end := endOf(sql, at, func(c byte) bool { return isDigit(c) || c == '.' })
		return lexeme{number, sql[at:end], at}, end
	case isLetter(c):
		end := endOf(sql, at, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '$' })
		return lexeme{word, sql[at:end], at}, end
	}
	return lexeme{symbol, sql[at : at+1], at}, at + 1
}

func endOf(sql string, at int, belongs func(byte) bool) int {
	for at < len(sql) && belongs(sql[at]) {
		at++
	}
	return at
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isLetter counts the bytes of anything but ASCII as letters.
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }

var escapes = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\\`, `\`, `\'`, `'`, `''`, `'`)

// unquote reads what is in quotes, a doubled one standing for itself. In strings a backslash escapes.
func unquote(sql string, at int, escaped bool) (string, int) {
	quote := sql[at]
	for i := at + 1; i < len(sql); i++ {
		switch {
		case escaped && sql[i] == '\\':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return unescape(sql[at+1:i], escaped), i + 1
		}
	}
	return "", -1
}

// dollarQuoted reads what is between two $$: everything stands for itself.
func dollarQuoted(sql string, at int) (string, int) {
	length := strings.Index(sql[at+2:], "$$")
	if length < 0 {
		return "", -1
	}
	end := at + 2 + length
	return sql[at+2 : end], end + 2
}

func unescape(content string, escaped bool) string {
	if escaped {
		return escapes.Replace(content)
	}
	return strings.ReplaceAll(content, `""`, `"`)
}

// parseFailure tells where in the text, and what, is wrong.
func parseFailure(sql string, at int, kind, what string) *failure {
	before := sql[:at]
	line := strings.Count(before, "\n") + 1
	position := at - strings.LastIndex(before, "\n") - 1
	return &failure{code: SyntaxError, sqlState: "42000",
		message: fmt.Sprintf("SQL compilation error:\n%s line %d at position %d %s.", kind, line, position, what)}
}
