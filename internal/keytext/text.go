package keytext

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxLayers is how many encodings around a key are undone: the base64 of a PEM, that in base64 again, and so on.
const maxLayers = 4

// lazily compiles an expression when it is first used. Most programs read their key from DER and use none of them.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// DecodeText returns data as UTF-8, without a byte order mark. It decodes UTF-16 of either byte order, with or without a
// mark, as Windows editors and PowerShell write it. The result is always a copy, so a caller can clear it.
func DecodeText(data []byte) []byte {
	text := bytes.Clone(data)
	if order := utf16Order(data); order != nil {
		text = decodeUTF16(data, order)
	}
	for _, mark := range []string{"\ufeff", "ÿþ", "þÿ", "ï»¿"} { // the others are marks that were read as Latin-1
		text = bytes.TrimPrefix(text, []byte(mark))
	}
	return text
}

// utf16Order returns the byte order of UTF-16, nil for other text. In UTF-16, every second byte of ASCII letters is zero.
func utf16Order(data []byte) binary.ByteOrder {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return binary.LittleEndian
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return binary.BigEndian
	}
	var zeros [2]int
	for i, b := range data {
		if b == 0 {
			zeros[i%2]++
		}
	}
	switch {
	case zeros == [2]int{}:
		return nil
	case zeros[0] > zeros[1]:
		return binary.BigEndian
	default:
		return binary.LittleEndian
	}
}

func decodeUTF16(data []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	defer clear(units)
	text := make([]byte, 0, len(data)*3/2) // no growth, which would leave copies
	for _, r := range utf16.Decode(units) {
		if r != 0 { // UTF-32 has two zeros more
			text = utf8.AppendRune(text, r)
		}
	}
	return text
}

// inspectText finds the key in a text, and decodes at most that many layers of encoding.
func inspectText(data []byte, layers int) Content {
	text := DecodeText(data)
	defer clear(text)
	if der := unhexEscaped(text); der != nil {
		return inspectDER(der)
	}
	text = unescape(text)
	defer clear(text)
	if len(trim(text)) == 0 {
		return Content{Form: FormEmpty}
	}
	oneLineEnd(text)
	blocks := blocksOf(text)
	if len(blocks) == 0 {
		return inspectBare(text, layers)
	}
	c := Content{Form: FormNoKey}
	private := slices.IndexFunc(blocks, func(b block) bool {
		return strings.HasSuffix(b.label, "PRIVATE KEY") && (b.ended || len(trim(text[b.start:b.end])) > 0)
	})
	if private >= 0 {
		c = inspectBlock(text, blocks[private], layers)
		c.Type = blocks[private].label
	}
	c.Types = nil
	for _, b := range blocks {
		if !slices.Contains(c.Types, b.label) {
			c.Types = append(c.Types, b.label)
		}
	}
	return c
}

// oneLineEnd makes a line feed of every line end, in place.
func oneLineEnd(text []byte) {
	for i, c := range text {
		switch {
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
			text[i] = ' '
		case c == '\r', c == '\f', c == '\v':
			text[i] = '\n'
		}
	}
}

// trim removes white space and invisible marks around a text.
func trim(text []byte) []byte { return bytes.TrimFunc(text, invisible) }

// invisible reports whether r is white space, a control character, or a mark such as a zero-width space.
func invisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}

// escapes match what stands for a character in JSON, env files, shells, PowerShell, URLs, HTML and mails. Several
// rounds of quoting leave several backslashes. String literals on consecutive lines are joined. PEM and base64 have none
// of these characters.
var escapes = lazily("[\"'][ \t]*[+.]?[ \t]*\r?\n[ \t]*[\"']|\\\\+(?:[nrt\"'/]|u00[0-7][0-9a-fA-F]|x[0-7][0-9a-fA-F]|\r?\n|$)|`[nrt]|%[0-7][0-9a-fA-F]|&#(?:x[0-9a-fA-F]{1,2}|[0-9]{1,3});|=3D")

// unescape replaces the escapes in text. It returns text itself if there are none.
func unescape(text []byte) []byte {
	if !bytes.ContainsAny(text, "\"'\\`%&") && !bytes.Contains(text, []byte("=3D")) {
		return text
	}
	plain := make([]byte, 0, len(text))
	last := 0
	for _, at := range escapes().FindAllIndex(text, -1) {
		plain = append(append(plain, text[last:at[0]]...), meaning(text[at[0]:at[1]])...)
		last = at[1]
	}
	return append(plain, text[last:]...)
}

// meaning is the character for which an escape stands.
func meaning(escape []byte) []byte {
	name := bytes.TrimLeft(escape, "\\`%&#=")
	switch {
	case escape[0] == '"', escape[0] == '\'':
		return []byte("\n")
	case bytes.HasPrefix(escape, []byte("&#x")):
		return number(name[1:len(name)-1], 16)
	case escape[0] == '&':
		return number(name[:len(name)-1], 10)
	case escape[0] == '%', escape[0] == '=':
		return number(name, 16)
	case len(name) > 1 && (name[0] == 'u' || name[0] == 'x'):
		return number(name[1:], 16)
	}
	switch string(name) {
	case "n":
		return []byte("\n")
	case "r":
		return []byte("\r")
	case "t":
		return []byte("\t")
	case "/", `"`, "'":
		return name
	default:
		return nil // a line goes on
	}
}

// number returns the ASCII character with this number, and a space for any other number: no key contains those.
func number(digits []byte, base int) []byte {
	n, err := strconv.ParseUint(string(digits), base, 7)
	if err != nil {
		n = ' '
	}
	return []byte{byte(n)}
}

// A block is a PEM block, as far as a text has it.
type block struct {
	label string // e.g. "ENCRYPTED PRIVATE KEY"
	start int    // of its body
	end   int    // of its body; that of the text without an END line
	ended bool
}

const (
	dash = `[-\x{2010}-\x{2015}\x{2212}]` // editors make one long dash of several short ones
	gap  = `[ \t_+\x{a0}]*`               // an environment variable of CI may have no spaces, a form has +
)

// marker is a BEGIN or END line. One without dashes, which command lines take for an option, has a line of its own.
var marker = lazily(`(?m)` + dash + `+` + gap + `(BEGIN|END)` + gap + `([A-Z0-9](?:[A-Z0-9 \t_+\x{a0}]{0,38}[A-Z0-9])?)` + gap + `(?:` + dash + `+|$)` +
	`|^[^\S\n]*(BEGIN|END) ((?:[A-Z0-9]+ ){0,3}KEY|CERTIFICATE)[^\S\n]*(?:` + dash + `+|$)`)

// blocksOf finds the PEM blocks in a text.
func blocksOf(text []byte) []block {
	var blocks []block
	open := false
	for _, at := range marker().FindAllSubmatchIndex(text, -1) {
		word, label := at[2:4], at[4:6]
		if word[0] < 0 {
			word, label = at[6:8], at[8:10]
		}
		if open {
			blocks[len(blocks)-1].end = at[0]
		}
		begins := string(text[word[0]:word[1]]) == "BEGIN"
		if open && !begins {
			blocks[len(blocks)-1].ended = true
		}
		if open = begins; open {
			blocks = append(blocks, block{label: labelOf(text[label[0]:label[1]]), start: at[1], end: len(text)})
		}
	}
	return blocks
}

var labels = []string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PUBLIC KEY", "RSA PUBLIC KEY"}

// labelOf restores the spaces in the label of a kind of key.
func labelOf(written []byte) string {
	if label := string(written); slices.Contains(labels, label) {
		return label
	}
	words := strings.FieldsFunc(string(written), func(r rune) bool { return r == '_' || r == '+' || unicode.IsSpace(r) })
	for _, known := range labels {
		if strings.ReplaceAll(known, " ", "") == strings.Join(words, "") {
			return known
		}
	}
	return strings.Join(words, " ")
}

func inspectBlock(text []byte, b block, layers int) Content {
	if b.label == "OPENSSH PRIVATE KEY" {
		return Content{Form: FormOpenSSH}
	}
	body := text[b.start:b.end]
	if bytes.Contains(body, []byte("Proc-Type:")) {
		return Content{Form: FormTraditional, Cipher: cipherOf(body)}
	}
	c := inspectBody(text, b.start+headers(body), b.end, layers)
	if !b.ended && !c.complete() {
		c.Clear()
		return Content{Form: FormNoEnd}
	}
	return c
}

var headerLines = lazily(`^\s*(?:[A-Za-z][A-Za-z-]*:[^\n]*\n)*`)

// headers is the length of the lines "Name: value" before a body.
func headers(body []byte) int { return headerLines().FindIndex(body)[1] }

// cipherOf returns the cipher's name in a line such as "DEK-Info: AES-256-CBC,9F86D081884C7D65".
func cipherOf(body []byte) string {
	_, line, _ := bytes.Cut(body, []byte("DEK-Info:"))
	line = bytes.TrimLeft(bytes.TrimPrefix(line, []byte("%20")), " +_\u00a0") // what the space after the colon may have become
	other := func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}
	end := bytes.IndexFunc(line, other)
	const longest = 40
	if end < 0 || end > longest {
		return ""
	}
	return string(line[:end])
}

// inspectBare inspects a text without BEGIN lines: base64, or a form that its first characters identify.
func inspectBare(text []byte, layers int) Content {
	if at := marker().FindIndex(text); at != nil {
		text = text[:at[0]] // an END line without its BEGIN
	}
	for _, known := range others {
		if known.begins().Match(text) {
			return Content{Form: known.form}
		}
	}
	c := inspectBody(text, 0, len(text), layers)
	if c.Form != FormUnknown && c.Form != FormBadCharacter {
		return c
	}
	if name := assigned().FindIndex(text); name != nil {
		if of := inspectBody(text, name[1], len(text), layers); of.Form != FormUnknown && of.Form != FormBadCharacter {
			c.Clear()
			return of
		}
	}
	return c
}

// assigned matches what precedes the value in a line of an env file, of YAML or of a data URL, or in Python's bytes.
var assigned = lazily(`^\s*(?:data:[\w/;=.+\-]{0,64},|[\w.\- ]{1,64}\s*[:=]\s*)?(?:[bB]?['"])?`)

// others are texts that hold no key, or hold one in a form that is not read.
var others = []struct {
	begins func() *regexp.Regexp
	form   Form
}{
	{lazily(`^\s*PuTTY-User-Key-File-`), FormPuTTY},
	{lazily(`^\s*[{\[](?s:.*?)"kty"\s*:`), FormJWK},
	{lazily(`^\s*ssh-rsa `), FormPublic},
	{lazily(`^\s*["']?(?:AQICAH|AQECAH|\$ANSIBLE_VAULT;|ENC\[|ENC\()`), FormCiphertext},
	{lazily(`^\s*["']?(?:arn:aws|[a-z+]{2,16}://|/(?:[\w.\-]+/)+[\w.\-]+["']?\s*$|\.{0,2}/?[\w.\-]+\.(?:p8|pem|key|der)["']?\s*$|\{\{|\$[({])`), FormReference},
	{lazily(`^\s*["']?(?:#NAME\?|null|nil|None|undefined|<[\w ]+>|\(sensitive value\)|\*{3,})["']?\s*$`), FormPlaceholder},
}

// inspectBody inspects the base64 in text[start:end]. It ignores a character that is not base64 if the rest is as long as
// the key's structure says: then no letter is missing, and the character is for instance the quotation mark of a mail.
func inspectBody(text []byte, start, end, layers int) Content {
	body := text[start:end]
	if der := unhex(body); der != nil {
		return inspectDER(der)
	}
	letters, bad := lettersOf(body)
	defer clear(letters)
	c := decodeLetters(letters, layers)
	if !c.complete() {
		c = c.or(decodeLetters(plusForSpace(body), 1)).or(decodeLetters(withoutGutter(body), 1))
	}
	switch {
	case c.complete():
		return c
	case bad < 0 && c.Form == FormOther && len(letters)%4 != 0 && bytes.IndexByte(body, '=') < 0:
		c.Clear()
		return Content{Form: FormUnknown}
	case bad < 0:
		return c
	}
	c.Clear()
	if start == 0 && (len(letters) < shortestKey || !longLine().Match(body)) {
		return Content{Form: FormUnknown} // a text, of which no character may be shown
	}
	r, _ := utf8.DecodeRune(body[bad:])
	line := text[:start+bad]
	return Content{
		Form: FormBadCharacter, BadCharacter: r, Line: 1 + bytes.Count(line, []byte("\n")),
		Column: 1 + utf8.RuneCount(line[bytes.LastIndexByte(line, '\n')+1:]),
	}
}

// longLine matches a line of a key, and no prose.
var longLine = lazily(`[A-Za-z0-9+/\-_]{40}`)

// shortestKey is a lower bound for the base64 letters of an RSA key of 2048 bits.
const shortestKey = 1024

// complete reports whether a DER structure was found that ends where its length says.
func (c Content) complete() bool {
	switch c.Form {
	case FormPKCS8, FormPKCS1, FormEncrypted, FormEC, FormPublic, FormPKCS12:
		return c.DER() == nil || exact(c.DER())
	case FormTraditional, FormOpenSSH, FormJWK, FormPuTTY, FormNoKey:
		return true // found in what the text encodes
	default:
		return false
	}
}

// or returns c, or other if only that is complete. It clears the one that it does not return.
func (c Content) or(other Content) Content {
	if !c.complete() && other.complete() {
		c.Clear()
		return other
	}
	other.Clear()
	return c
}

// lettersOf returns the body in the letters of standard base64, without padding. bad is the index of the first character
// that is neither base64 nor white space, -1 if there is none.
func lettersOf(body []byte) (letters []byte, bad int) {
	letters = make([]byte, 0, len(body))
	bad = -1
	end := len(bytes.TrimRightFunc(body, func(r rune) bool { return invisible(r) || strings.ContainsRune(quotes+"=,;", r) }))
	start := len(body) - len(bytes.TrimLeftFunc(body, func(r rune) bool { return invisible(r) || strings.ContainsRune(quotes, r) }))
	for i := start; i < end; {
		r, size := utf8.DecodeRune(body[i:])
		switch {
		case r == '-':
			letters = append(letters, '+')
		case r == '_':
			letters = append(letters, '/')
		case isLetter(r):
			letters = append(letters, byte(r))
		case !invisible(r) && bad < 0:
			bad = i
		}
		i += size
	}
	return letters, bad
}

// quotes may stand around a text.
const quotes = "\"'“”‘’«»`"

func isLetter(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '+' || r == '/'
}

// plusForSpace returns the letters of a body in which the decoding of a form turned each + into a space.
func plusForSpace(body []byte) []byte {
	var letters []byte
	for line := range bytes.FieldsFuncSeq(body, func(r rune) bool { return r != ' ' && invisible(r) }) {
		letters = append(letters, bytes.ReplaceAll(bytes.TrimRight(bytes.Trim(line, quotes), "="), []byte(" "), []byte("+"))...)
	}
	return letters
}

// gutter matches what precedes each line of a diff or of numbered lines.
var gutter = lazily(`(?m)^[ \t]*(?:\+|[0-9]{1,3}[ \t:.)|]+)`)

// withoutGutter returns the letters of a body without the numbers before its lines.
func withoutGutter(body []byte) []byte {
	lines := gutter().ReplaceAll(body, nil)
	defer clear(lines)
	letters, _ := lettersOf(lines)
	return letters
}

// betweenHex matches what programs write before, between and after the bytes of hexadecimal text.
var betweenHex = lazily(`0[xX]|\\+[xX]|[xX]['"]|[\s:,;\-(){}\[\]'"]|\pC`)

// notHex are the letters of base64 that hexadecimal text does not have.
const notHex = "ghijklmnopqrstuvwyzGHIJKLMNOPQRSTUVWYZ"

// unhex decodes a body that is DER in hexadecimal. It returns nil for any other body.
func unhex(body []byte) []byte {
	const enough = 64 // for the first digits
	start := body[:min(len(body), enough)]
	if bytes.ContainsAny(start, notHex) {
		return nil
	}
	start = betweenHex().ReplaceAll(start, nil)
	defer clear(start)
	if !bytes.HasPrefix(start, []byte("308")) {
		return nil
	}
	digits := make([]byte, 0, len(body)) // no growth, which would leave copies
	defer func() { clear(digits) }()
	for rest := body; len(rest) > 0; {
		gap := betweenHex().FindIndex(rest)
		if gap == nil {
			gap = []int{len(rest), len(rest)}
		}
		digits, rest = append(digits, rest[:gap[0]]...), rest[gap[1]:]
	}
	der := make([]byte, len(digits)/2)
	if _, err := hex.Decode(der, digits); err != nil || len(der) < 2 {
		clear(der)
		return nil
	}
	return der
}

// unhexEscaped is unhex for bytes such as \x82. unescape cannot decode them: those above \x7f are no characters.
func unhexEscaped(text []byte) []byte {
	if !bytes.Contains(text, []byte(`\x`)) {
		return nil
	}
	return unhex(text[assigned().FindIndex(text)[1]:])
}

// decodeLetters inspects what the base64 encodes: DER, or a text.
func decodeLetters(letters []byte, layers int) Content {
	decoded := make([]byte, base64.RawStdEncoding.DecodedLen(len(letters)))
	n, err := base64.RawStdEncoding.Decode(decoded, letters)
	decoded = decoded[:n]
	switch {
	case err != nil || n == 0:
		clear(decoded)
		return Content{Form: FormUnknown}
	case bytes.HasPrefix(decoded, []byte(javaKeyStore)):
		return Content{Form: FormKeystore}
	case isText(decoded) && layers > 1:
		defer clear(decoded)
		if c := inspectText(decoded, layers-1); c.Form != FormUnknown && c.Form != FormEmpty {
			return c
		}
		return Content{Form: FormOther}
	}
	return inspectDER(decoded)
}

const javaKeyStore = "\xfe\xed\xfe\xed"

// isText distinguishes a text from DER and other binary data by its first bytes: the second byte of DER is no character.
func isText(data []byte) bool {
	if isDER(data) {
		return false
	}
	start := data[:min(len(data), 64)]
	if utf16Order(start) == nil && !utf8.Valid(start[:max(0, len(start)-utf8.UTFMax)]) {
		return false
	}
	text := DecodeText(start)
	defer clear(text)
	return bytes.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) < 0
}
