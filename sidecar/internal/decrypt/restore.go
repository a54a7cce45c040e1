package decrypt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// The commands that restore a key file from a text that usually holds one. FILE is replaced.
const (
	decodeBase64 = "base64 -d STORED > FILE"
	writeBreaks  = `printf '%b\n' "$(cat STORED)" > FILE`
)

// labelOf is what the BEGIN line of a key must say for other programs to read it, "" for a form without such a line.
func labelOf(found keytext.Content) string {
	switch found.Form {
	case keytext.FormPKCS8:
		return "PRIVATE KEY"
	case keytext.FormPKCS1:
		return "RSA PRIVATE KEY"
	case keytext.FormEncrypted:
		return "ENCRYPTED PRIVATE KEY"
	case keytext.FormTraditional:
		if strings.HasSuffix(found.Type, "PRIVATE KEY") {
			return found.Type
		}
		return "RSA PRIVATE KEY" // within another block
	case keytext.FormOpenSSH:
		return "OPENSSH PRIVATE KEY"
	}
	return ""
}

// others are the files of other forms, by the name in their advice, and how they begin.
var others = map[keytext.Form]struct{ file, begins string }{
	keytext.FormPKCS12:   {"KEY.p12", "0"},
	keytext.FormKeystore: {"KEY.jks", "\xfe\xed\xfe\xed"},
	keytext.FormPuTTY:    {"KEY.ppk", "PuTTY-User-Key-File"},
}

// input finds the file that an advised command reads.
var input = lazyregexp.New(`(?:-in |-f |open\(")(OLD\.p8|KEY\.p8|COPY)`)

const notRead = "other programs do not read this text as it is: "

// restoreFirst adds to err's advice how to get the file that it names, if other programs do not read text as it is.
func restoreFirst(err error, text []byte, found keytext.Content) error {
	refused, ok := errors.AsType[*failure.Error](err)
	if !ok {
		return err
	}
	advice := keyFileFirst(refused.Advice, text, found)
	if _, known := others[found.Form]; known {
		advice = otherFileFirst(refused.Advice, text, found.Form)
	}
	if advice == refused.Advice {
		return err
	}
	return failure.New(refused.Class, refused.Unwrap(), advice)
}

// otherFileFirst is for the advice about a file of another form.
func otherFileFirst(advice string, text []byte, form keytext.Form) string {
	other := others[form]
	isFile := func(data []byte) bool {
		return bytes.HasPrefix(data, []byte(other.begins)) && (form == keytext.FormPuTTY || !utf8.Valid(data))
	}
	switch {
	case isFile(text):
		return advice
	case isFile(fromBase64(text)):
		return "decode the text from base64 into " + other.file + " (base64 -d), and " + advice
	}
	return notRead + "take the file " + other.file + " that it was made from, and " + advice
}

// keyFileFirst is for the advice that reads a key file.
func keyFileFirst(advice string, text []byte, found keytext.Content) string {
	before, command, hasCommand := strings.Cut(advice, "with: ")
	file := input().FindStringSubmatch(command)
	if !hasCommand || file == nil || labelOf(found) == "" || isKeyFile(text, found) {
		return advice
	}
	if restore := restoring(text, found); restore != "" {
		return notRead + "save the key's text alone as STORED, and " + before + "with: " + strings.Replace(restore, "FILE", file[1], 1) + ", and then " + command
	}
	return notRead + "take the key file that it was made from, and " + advice
}

// restoring is the command that restores the key file from text, "" if none of the usual ones does.
func restoring(text []byte, found keytext.Content) string {
	decoded, broken := fromBase64(text), bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
	defer clear(decoded)
	defer clear(broken)
	switch {
	case isKeyFile(decoded, found):
		return decodeBase64
	case isKeyFile(broken, found):
		return writeBreaks
	default:
		return ""
	}
}

// fromBase64 decodes text as base64 -d does. It returns nil if that fails.
func fromBase64(text []byte) []byte {
	decoded := make([]byte, len(text))
	n, err := base64.StdEncoding.Decode(decoded, text)
	if err != nil || bytes.Contains(text, []byte("\r")) {
		clear(decoded)
		return nil
	}
	return decoded[:n]
}

// isKeyFile reports whether text has the key in a PEM block as every program reads it. Other text may stand before and
// after it, but not with ssh-keygen.
func isKeyFile(text []byte, found keytext.Content) bool {
	const line = `[A-Za-z0-9+/]{1,76}`
	label, headers := regexp.QuoteMeta(labelOf(found)), ""
	if found.Form == keytext.FormTraditional {
		headers = `Proc-Type: .*\nDEK-Info: .*\n\r?\n`
	}
	block := `-----BEGIN ` + label + `-----\r?\n` + headers + `(?:` + line + `\r?\n)*` + line + `={0,2}\r?\n-----END ` + label + `-----`
	if found.Form == keytext.FormOpenSSH {
		return regexp.MustCompile(`\A`+block+`\s*\z`).Match(text) && !bytes.Contains(text, []byte("\r"))
	}
	ends := bytes.Count(text, []byte("-----BEGIN ")) == bytes.Count(text, []byte("-----END "))
	return ends && regexp.MustCompile(`(?:\A|\n)`+block+`[ \t]*\r?(?:\n|\z)`).Match(text)
}
