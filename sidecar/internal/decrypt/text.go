package decrypt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// maxText is the largest key text that is looked at. Parameter Store holds at most 8 KB; an
// encrypted RSA key of 16384 bits has 12.9 KB.
const maxText = 64 << 10

var (
	beginLine = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----`)
	dekInfo   = regexp.MustCompile(`DEK-Info: *([A-Za-z0-9-]+)`)
)

// derOf finds the key in a text as people paste, escape and fold it: PEM with any line ends or
// none, "\n" written out, text around it, or the base64 body alone.
func derOf(text []byte) ([]byte, error) {
	if len(text) > maxText {
		return nil, tooLong(text)
	}
	text = bytes.TrimSpace(unescape(trimmed(text)))
	if len(text) == 0 {
		return nil, unreadable(errors.New("the value is empty"), "store the text of the key file, from -----BEGIN to -----END")
	}
	begins := beginLine.FindAllSubmatchIndex(text, -1)
	if begins == nil {
		return bodyOf(text)
	}
	for _, at := range begins {
		label := string(text[at[2]:at[3]])
		if strings.HasSuffix(label, "PRIVATE KEY") {
			return blockOf(label, text[at[1]:])
		}
	}
	label := string(text[begins[0][2]:begins[0][3]])
	return nil, unreadable(fmt.Errorf("the value holds a %s, not a private key", strings.ToLower(label)),
		"store the private key's PEM")
}

// unescape undoes "\n" and "\r" written as two characters, as environment files and JSON copied by
// hand have it. PEM and base64 have no backslash of their own.
func unescape(text []byte) []byte {
	if !bytes.ContainsRune(text, '\\') {
		return text
	}
	text = bytes.ReplaceAll(text, []byte(`\r`), nil)
	return bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
}

// blockOf decodes what stands between a BEGIN line, already passed, and its END line.
func blockOf(label string, rest []byte) ([]byte, error) {
	if label == "OPENSSH PRIVATE KEY" {
		return nil, unreadable(errors.New("the value is a key in OpenSSH's own format"),
			"convert a copy with ssh-keygen -p -m PKCS8 -f COPY")
	}
	body, _, ok := bytes.Cut(rest, []byte("-----END "+label+"-----"))
	if !ok {
		return nil, truncated(fmt.Errorf("no END %s line", label))
	}
	if bytes.Contains(body, []byte("Proc-Type:")) {
		name := "unknown"
		if m := dekInfo.FindSubmatch(body); m != nil {
			name = string(m[1])
		}
		return nil, unreadable(fmt.Errorf("the key is encrypted the traditional PEM way (DEK-Info: %s), which is not read here", name),
			"encrypt it again with: "+reencrypt)
	}
	return bodyOf(body)
}

func bodyOf(body []byte) ([]byte, error) {
	body = bytes.Join(bytes.Fields(body), nil)
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(der, body)
	if err != nil {
		// The decoder's error names an offset only, but a value that is not base64 may be a
		// passphrase pasted into the wrong parameter: nothing of it is repeated.
		return nil, unreadable(errors.New("the value is neither PEM nor base64"),
			"store the text of the key file, from -----BEGIN to -----END, e.g. --value file://rsa_key.p8")
	}
	return der[:n], nil
}

// reencrypt turns any key that openssl reads into the form recommended here.
const reencrypt = "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD.p8 -out NEW.p8"

func tooLong(text []byte) error {
	return unreadable(fmt.Errorf("the value has %d bytes, and no key is longer than %d", len(text), maxText),
		"store the key alone: "+reencrypt)
}

func truncated(cause error) error {
	return unreadable(fmt.Errorf("the key is truncated: %w", cause), "store the whole file again")
}

func unreadable(cause error, do string) error {
	return failure.New(keyfile.ClassUnreadableKey, cause, do)
}
