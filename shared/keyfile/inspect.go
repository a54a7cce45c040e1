package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// MaxSize is the size of the largest key file, or key text, that is read, in bytes. An RSA key of [MaxBits]
// has 4.7 KB as DER and 6.5 KB as encrypted PEM; certificates may stand beside it.
const MaxSize = 64 << 10

// A Form is what [Inspect] takes a text for.
type Form int

// The forms. [Content.Key] reads FormPKCS8 and FormPKCS1; each other form is an error there.
const (
	FormUnknown     Form = iota // neither PEM nor base64 nor DER
	FormPKCS8                   // PKCS#8 PrivateKeyInfo, not encrypted; Algorithm says of which kind
	FormPKCS1                   // PKCS#1 RSAPrivateKey
	FormEncrypted               // PKCS#8 EncryptedPrivateKeyInfo
	FormTraditional             // PEM with a DEK-Info line, as openssl encrypted before PKCS#8; Cipher says how
	FormOpenSSH                 // OPENSSH PRIVATE KEY, encrypted or not
	FormEC                      // SEC 1 ECPrivateKey
	FormPublic                  // a public key or a certificate, without PEM around it
	FormNoKey                   // PEM, and no block in it is a private key; Types says what they are
	FormNoEnd                   // PEM whose private key block has no END line
	FormTruncated               // DER that ends before its own length says
	FormOther                   // DER or base64 of something else
	FormEmpty                   // nothing but white space
	FormTooLarge                // larger than MaxSize
)

// A Content is what [Inspect] found in a text. It prints nothing of the key.
type Content struct {
	Form      Form
	Type      string   // of the private key's PEM block, e.g. "RSA PRIVATE KEY"; "" without one
	Types     []string // of all PEM blocks, in their order, without repetitions; nil without PEM
	Algorithm string   // of FormPKCS8: the object identifier in dotted form; "" if it does not parse
	Cipher    string   // of FormTraditional: as the DEK-Info line names it, e.g. "AES-256-CBC"; "" if it does not

	der func() []byte // a closure, for the same reason as in Key
}

// Inspect finds the private key in the content of a key file, or in a text that holds a key as people paste,
// escape and fold it:
//
//   - DER
//   - PEM with any line ends or none, spaces around the lines, or "\n" and "\r" written as two characters
//   - PEM with text before BEGIN or after END, and with other blocks beside the key, e.g. certificates:
//     the first block of a private key counts
//   - the standard base64 of the DER without BEGIN and END lines, on any number of lines
//
// A UTF-8 byte order mark and white space may stand before and after text. The DER itself says in which form
// the key is: a wrong label in the BEGIN line makes no difference.
//
// Inspect decrypts nothing and does not change data. Clear the Content when it is no longer needed.
func Inspect(data []byte) Content {
	switch {
	case len(data) > MaxSize:
		return Content{Form: FormTooLarge}
	case isDER(data):
		return inspectDER(bytes.Clone(data))
	default:
		return inspectText(data)
	}
}

// Key returns the private key of FormPKCS8 or FormPKCS1. Its errors are [ErrEncrypted], [ErrNotRSA],
// [ErrTooShort], [ErrTooLong], [ErrMultiPrime], [ErrNotPrime] and [ErrNotKey]; they name what was found and repeat no other part of it.
func (c Content) Key() (*Key, error) {
	switch c.Form {
	case FormPKCS8:
		if c.Algorithm != "" && c.Algorithm != oidRSA {
			return nil, ErrNotRSA
		}
		return FromDER(c.DER())
	case FormPKCS1:
		if len(c.DER()) > maxDER {
			return nil, ErrTooLong
		}
		private, err := x509.ParsePKCS1PrivateKey(c.DER())
		if err != nil {
			// The cause may quote the key.
			return nil, ErrNotKey
		}
		return FromRSA(private)
	case FormEncrypted, FormTraditional:
		return nil, ErrEncrypted
	case FormEC:
		return nil, ErrNotRSA
	case FormOpenSSH:
		return nil, fmt.Errorf("%w: it has OpenSSH's own format; convert a copy with ssh-keygen -p -m PKCS8 -f COPY", ErrNotKey)
	case FormPublic:
		return nil, fmt.Errorf("%w: it is a public key or a certificate", ErrNotKey)
	case FormNoKey:
		return nil, fmt.Errorf("%w: PEM blocks found: %s", ErrNotKey, strings.Join(c.Types, ", "))
	case FormNoEnd:
		return nil, fmt.Errorf("%w: truncated, no END %s line", ErrNotKey, c.Type)
	case FormTruncated:
		return nil, fmt.Errorf("%w: truncated", ErrNotKey)
	case FormEmpty:
		return nil, fmt.Errorf("%w: empty", ErrNotKey)
	case FormTooLarge:
		return nil, fmt.Errorf("%w: %w", ErrNotKey, errTooLarge)
	}
	if c.Type != "" {
		return nil, fmt.Errorf("%w: its %s block is damaged", ErrNotKey, c.Type)
	}
	return nil, ErrNotKey
}

// DER returns the DER structure that was found, nil if there is none. It is the Content's own: do not change it.
func (c Content) DER() []byte {
	if c.der == nil {
		return nil
	}
	return c.der()
}

// Clear overwrites the DER.
func (c Content) Clear() { clear(c.DER()) }

// isDER tells DER from text. Both can begin with 0x30, the digit 0. A key's DER goes on with a length of
// several bytes, which is no UTF-8; a shorter structure ends where its length says.
func isDER(data []byte) bool {
	return len(data) >= 2 && data[0] == 0x30 && (data[1]&^3 == 0x80 || int(data[1]) == len(data)-2)
}

func inspectText(text []byte) Content {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.IndexByte(text, '\\') >= 0 {
		text = unescape(text)
		defer clear(text)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return Content{Form: FormEmpty}
	}
	types, private, rest := blocks(text)
	if types == nil {
		return inspectBase64(text)
	}
	c := Content{Form: FormNoKey}
	if private != "" {
		c = inspectBlock(private, rest)
	}
	c.Type, c.Types = private, types
	return c
}

// unescape replaces "\n" and "\r" written as two characters, as environment files and JSON copied by hand
// have them. PEM and base64 have no backslash of their own.
func unescape(text []byte) []byte {
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case bytes.HasPrefix(text[i:], []byte(`\n`)):
			plain = append(plain, '\n')
			i++
		case bytes.HasPrefix(text[i:], []byte(`\r`)):
			i++
		default:
			plain = append(plain, text[i])
		}
	}
	return plain
}

// blocks finds the BEGIN lines in a text. private is the type of the first block of a private key, "" if
// there is none, and rest the text after its BEGIN line.
func blocks(text []byte) (types []string, private string, rest []byte) {
	for {
		_, after, found := bytes.Cut(text, []byte("-----BEGIN "))
		if !found {
			return types, private, rest
		}
		text = after
		label, body, found := bytes.Cut(after, []byte("-----"))
		if !found || !isType(label) {
			continue
		}
		if !slices.Contains(types, string(label)) {
			types = append(types, string(label))
		}
		if private == "" && bytes.HasSuffix(label, []byte("PRIVATE KEY")) {
			private, rest = string(label), body
		}
		text = body
	}
}

// isType reports whether label is a type of PEM blocks. The longest known one has 22 characters; errors name
// types, so a whole text must not be one.
func isType(label []byte) bool {
	const longest = 40
	other := func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != ' ' }
	return len(label) > 0 && len(label) <= longest && bytes.IndexFunc(label, other) < 0
}

// inspectBlock takes the text after a BEGIN line.
func inspectBlock(label string, rest []byte) Content {
	if label == "OPENSSH PRIVATE KEY" {
		return Content{Form: FormOpenSSH}
	}
	body, _, found := bytes.Cut(rest, []byte("-----END "+label+"-----"))
	switch {
	case !found:
		return Content{Form: FormNoEnd}
	case bytes.Contains(body, []byte("Proc-Type:")):
		return Content{Form: FormTraditional, Cipher: cipherOf(body)}
	default:
		return inspectBase64(body)
	}
}

// cipherOf returns the cipher's name in a line such as "DEK-Info: AES-256-CBC,9F86D081884C7D65".
func cipherOf(body []byte) string {
	_, line, _ := bytes.Cut(body, []byte("DEK-Info:"))
	line = bytes.TrimLeft(line, " ")
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

func inspectBase64(text []byte) Content {
	text = bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	defer clear(text)
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(der, text)
	if err != nil {
		clear(der)
		return Content{Form: FormUnknown}
	}
	return inspectDER(der[:n])
}

const oidRSA = "1.2.840.113549.1.1.1"

// inspectDER owns der.
func inspectDER(der []byte) Content {
	c := Content{Form: formOf(der), der: func() []byte { return der }}
	if c.Form == FormPKCS8 {
		var info struct {
			Version   int
			Algorithm struct {
				OID        asn1.ObjectIdentifier
				Parameters asn1.RawValue `asn1:"optional"`
			}
		}
		if _, err := asn1.Unmarshal(der, &info); err == nil {
			c.Algorithm = info.Algorithm.OID.String()
		}
	}
	return c
}

// formOf tells structures apart by their first two elements.
func formOf(der []byte) Form {
	var outer, first, second asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		if len(der) > 0 && der[0] == 0x30 {
			return FormTruncated
		}
		return FormOther
	}
	rest, err := asn1.Unmarshal(outer.Bytes, &first)
	if err != nil {
		return FormOther
	}
	if _, err := asn1.Unmarshal(rest, &second); err != nil {
		return FormOther
	}
	switch [2]int{first.Tag, second.Tag} {
	case [2]int{asn1.TagInteger, asn1.TagSequence}:
		return FormPKCS8
	case [2]int{asn1.TagInteger, asn1.TagInteger}:
		return FormPKCS1
	case [2]int{asn1.TagSequence, asn1.TagOctetString}:
		return FormEncrypted
	case [2]int{asn1.TagInteger, asn1.TagOctetString}:
		return FormEC
	case [2]int{asn1.TagSequence, asn1.TagBitString}, [2]int{asn1.TagSequence, asn1.TagSequence}:
		return FormPublic
	default:
		return FormOther
	}
}
