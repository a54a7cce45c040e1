package decrypt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// The commands that make the key file again of the usual texts that hold one. FILE is replaced.
const (
	decodeBase64 = "base64 -d STORED > FILE"
	writeBreaks  = `printf '%b\n' "$(cat STORED)" > FILE`
)

// labels are what the BEGIN line of a key must say for other programs to read it.
var labels = map[keyfile.Form]string{
	keyfile.FormPKCS8:       "PRIVATE KEY",
	keyfile.FormPKCS1:       "RSA PRIVATE KEY",
	keyfile.FormEncrypted:   "ENCRYPTED PRIVATE KEY",
	keyfile.FormTraditional: "RSA PRIVATE KEY",
	keyfile.FormOpenSSH:     "OPENSSH PRIVATE KEY",
}

// binaries are the files that are no text.
var binaries = map[keyfile.Form]string{keyfile.FormPKCS12: "KEY.p12", keyfile.FormKeystore: "KEY.jks"}

// input finds the file that an advised command reads.
var input = lazily(`(?:-in |-f |open\(")(OLD\.p8|KEY\.p8|COPY)`)

// restoreFirst adds to the advice of err where its file comes from, if other programs do not read text as it is.
func restoreFirst(err error, text []byte, form keyfile.Form) error {
	refused, ok := errors.AsType[*failure.Error](err)
	if !ok {
		return err
	}
	advise := func(advice string) error { return failure.New(refused.Class, refused.Unwrap(), advice) }
	if file := binaries[form]; file != "" && utf8.Valid(text) {
		return advise("decode the text from base64 into " + file + " (base64 -d), and " + refused.Advice)
	}
	before, command, found := strings.Cut(refused.Advice, "with: ")
	file := input().FindStringSubmatch(command)
	if !found || file == nil || labels[form] == "" || isKeyFile(text, form) {
		return err
	}
	const unread = "other programs do not read this text as it is: "
	if restore := restoring(text, form); restore != "" {
		return advise(unread + "save the key's text alone as STORED, and " + before + "with: " + strings.Replace(restore, "FILE", file[1], 1) + ", and then " + command)
	}
	return advise(unread + "take the key file that it was made from, and " + refused.Advice)
}

// restoring is the command that makes the key file of text, "" if none of the usual ones does.
func restoring(text []byte, form keyfile.Form) string {
	decoded, broken := make([]byte, len(text)), bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
	defer clear(decoded)
	defer clear(broken)
	n, err := base64.StdEncoding.Decode(decoded, text)
	switch {
	case err == nil && isKeyFile(decoded[:n], form) && !bytes.Contains(text, []byte("\r")): // which base64 does not read
		return decodeBase64
	case isKeyFile(broken, form):
		return writeBreaks
	default:
		return ""
	}
}

// isKeyFile reports whether text is a PEM block and nothing else, so that every program reads it.
func isKeyFile(text []byte, form keyfile.Form) bool {
	const headers, line = `(?:Proc-Type: .*\nDEK-Info: .*\n\r?\n)?`, `[A-Za-z0-9+/]{1,76}`
	label := labels[form]
	block := regexp.MustCompile(`\A-----BEGIN ` + label + `-----\r?\n` + headers + `(?:` + line + `\r?\n)*` + line + `={0,2}\r?\n-----END ` + label + `-----\s*\z`)
	return block.Match(text) && (form != keyfile.FormOpenSSH || !bytes.Contains(text, []byte("\r"))) // which ssh-keygen does not read
}
