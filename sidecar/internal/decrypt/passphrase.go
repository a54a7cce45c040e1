package decrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"iter"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// A reading of a stored passphrase is what may have been meant: the passphrase as it is, or without what editors,
// shells and stores add to it.
type reading struct {
	passphrase []byte
	how        []string // the ways, in words, in their order; nil of the passphrase as it is
}

// maxReadings bounds the tries of a passphrase, each of which derives a key.
const maxReadings = 12

// A way to read a passphrase gives nil for a text to which it does not apply.
type way struct {
	how  string
	read func([]byte) []byte
}

// ways are all of them, the most frequent first.
var ways = []way{
	{"without the line break after it", firstLine},
	{"without the byte order mark before it, as UTF-8", changed(keytext.DecodeText)},
	{"without the spaces around it", changed(func(p []byte) []byte { return bytes.TrimFunc(p, around) })},
	{"without the quotation marks around it", unquoted},
	{"without the backslashes of JSON", unescaped},
	{"without the JSON around it", field},
	{"decoded from base64", decoded},
	{"decoded as a URL", percentDecoded},
	{"without the name before it", unnamed},
	{"in Latin-1", latin1},
}

// readings are the passphrase as it is, and then every other text that may have been meant, up to limit. They are made
// one by one, since the first one opens most keys.
func readings(passphrase secret.Value, limit int) iter.Seq[reading] {
	return func(yield func(reading) bool) {
		all := []reading{{passphrase: passphrase.Bytes()}}
		if !yield(all[0]) || len(passphrase.Bytes()) > keyfile.MaxSize {
			return
		}
		for i := 0; i < len(all); i++ {
			for _, way := range ways {
				read := way.read(all[i].passphrase)
				known := func(r reading) bool { return bytes.Equal(r.passphrase, read) }
				if read == nil || slices.ContainsFunc(all, known) {
					continue
				}
				if len(all) == limit {
					return
				}
				all = append(all, reading{read, append(slices.Clone(all[i].how), way.how)})
				if !yield(all[len(all)-1]) {
					return
				}
			}
		}
	}
}

// changed makes a way of f, which may return its argument.
func changed(f func([]byte) []byte) func([]byte) []byte {
	return func(p []byte) []byte {
		if read := f(p); !bytes.Equal(read, p) {
			return append([]byte{}, read...)
		}
		return nil
	}
}

// firstLine is what openssl reads of a file. Line breaks may also be written out, as by echo '...\n'.
func firstLine(p []byte) []byte {
	for _, written := range []string{`\r\n`, `\n`} {
		if line, found := bytes.CutSuffix(p, []byte(written)); found {
			return append([]byte{}, line...)
		}
	}
	at := bytes.IndexAny(p, "\r\n")
	if at < 0 {
		return nil
	}
	return append([]byte{}, p[:at]...)
}

// around reports white space and invisible marks, which are rarely part of a passphrase.
func around(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

var quotationMarks = [][2]string{{`"`, `"`}, {"'", "'"}, {"`", "`"}, {"“", "”"}, {"‘", "’"}, {"«", "»"}, {"„", "“"}, {"b'", "'"}}

func unquoted(p []byte) []byte {
	for _, marks := range quotationMarks {
		text, opened := bytes.CutPrefix(p, []byte(marks[0]))
		text, closed := bytes.CutSuffix(text, []byte(marks[1]))
		if opened && closed {
			return append([]byte{}, text...)
		}
	}
	return nil
}

// unescaped reads p as what stands between the quotation marks of JSON.
func unescaped(p []byte) []byte {
	if !bytes.Contains(p, []byte(`\`)) {
		return nil
	}
	text := bytes.TrimSuffix(bytes.TrimPrefix(p, []byte(`"`)), []byte(`"`))
	return fromJSON(slices.Concat([]byte(`"`), text, []byte(`"`)))
}

func fromJSON(p []byte) []byte {
	var text *string
	if json.Unmarshal(p, &text) != nil || text == nil {
		return nil
	}
	return append([]byte{}, *text...)
}

// field is the passphrase in JSON: its field passphrase, or its only one. Secrets Manager's console stores passphrases
// like that.
func field(p []byte) []byte {
	var fields map[string]json.RawMessage
	if !bytes.HasPrefix(bytes.TrimSpace(p), []byte("{")) || json.Unmarshal(p, &fields) != nil {
		return nil
	}
	for name, value := range fields {
		if len(fields) == 1 || strings.EqualFold(name, "passphrase") {
			return fromJSON(value)
		}
	}
	return nil
}

// decoded is p decoded from base64, in which Kubernetes stores a passphrase.
func decoded(p []byte) []byte {
	letters := bytes.TrimRight(p, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		text := make([]byte, encoding.DecodedLen(len(letters)))
		n, err := encoding.Strict().Decode(text, letters)
		if err == nil && n > 0 && isText(text[:n]) {
			return text[:n]
		}
	}
	return nil
}

func isText(p []byte) bool {
	text := keytext.DecodeText(p)
	return utf8.Valid(text) && !bytes.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) || r == utf8.RuneError })
}

// named finds the name before the value in an env file, in YAML, and in openssl's -passin.
var named = lazyregexp.New(`^\s*(?:export )?[A-Za-z_][\w.\-]{0,63}(?:=|:[ \t]*)`)

func unnamed(p []byte) []byte {
	at := named().FindIndex(p)
	if at == nil {
		return nil
	}
	return append([]byte{}, p[at[1]:]...)
}

// mistaken says what was stored in place of a passphrase, "" if p may be one.
func mistaken(passphrase []byte) string {
	nothing := func(r rune) bool { return around(r) || r == '"' || r == '\'' }
	switch {
	case len(passphrase) == 0:
		return "it is empty"
	case len(bytes.TrimFunc(passphrase, nothing)) == 0:
		return "it has nothing but white space and quotation marks"
	case isJSONWithoutPassphrase(passphrase):
		return "it is JSON without a text in a field named passphrase"
	}
	found := keytext.Inspect(passphrase)
	defer found.Clear()
	switch found.Form {
	case keytext.FormReference:
		return "it is an ARN, an address, a path, or an expression of a template, which names a passphrase at most"
	case keytext.FormPlaceholder:
		return "it is what a program leaves where a value is missing, such as null"
	case keytext.FormEncrypted, keytext.FormPKCS8, keytext.FormPKCS1, keytext.FormTraditional, keytext.FormPublic:
		return "it is a key itself"
	case keytext.FormCiphertext:
		return "it is still encrypted by AWS KMS, SOPS or Ansible Vault"
	default:
		return ""
	}
}

func isJSONWithoutPassphrase(p []byte) bool {
	object := jsonIn(p)
	defer clear(object)
	if !json.Valid(object) {
		return false
	}
	inside := field(object)
	defer clear(inside)
	return inside == nil
}

func percentDecoded(p []byte) []byte {
	text, err := url.PathUnescape(string(p))
	if err != nil || text == string(p) {
		return nil
	}
	return append([]byte{}, text...)
}

// latin1 is p in Latin-1, for keys of programs that know no UTF-8. It also repairs UTF-8 that was once read as Latin-1.
func latin1(p []byte) []byte {
	if !utf8.Valid(p) {
		return nil
	}
	text, other := make([]byte, 0, len(p)), false
	for _, r := range string(p) {
		if r > 0xff {
			return nil
		}
		other = other || r >= utf8.RuneSelf
		text = append(text, byte(r))
	}
	if !other {
		return nil
	}
	return text
}
