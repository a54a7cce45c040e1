package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
)

// MaxSize is the size in bytes of the largest key file, status.json or key text that is read. An RSA key of [MaxBits] has
// 4.7 KB as DER and 6.5 KB as encrypted PEM; the file may also hold certificates.
const MaxSize = 64 << 10

// A Form says what [Inspect] found.
type Form int

// The forms. [Content.Key] reads FormPKCS8 and FormPKCS1, and returns an error for each other one. Their numbers may change.
const (
	FormUnknown      Form = iota // neither PEM nor base64 nor DER
	FormPKCS8                    // PKCS#8 PrivateKeyInfo, not encrypted; Algorithm says of which kind
	FormPKCS1                    // PKCS#1 RSAPrivateKey
	FormEncrypted                // PKCS#8 EncryptedPrivateKeyInfo
	FormTraditional              // PEM with a DEK-Info line, as openssl encrypted before PKCS#8; Cipher says how
	FormOpenSSH                  // OPENSSH PRIVATE KEY, encrypted or not
	FormEC                       // SEC 1 ECPrivateKey
	FormPublic                   // a public key or a certificate, without PEM around it
	FormNoKey                    // PEM, and no block in it is a private key; Types says what they are
	FormNoEnd                    // PEM whose private key block has no END line
	FormTruncated                // DER that ends before the length in it says
	FormBadCharacter             // base64 with a character that is not base64 and cannot be ignored: see BadCharacter, Line and Column
	FormPKCS12                   // a PKCS#12 file: .p12 or .pfx
	FormKeystore                 // a Java KeyStore of the type JKS
	FormJWK                      // JSON Web Key
	FormPuTTY                    // PuTTY's own format: .ppk
	FormCiphertext               // ciphertext of AWS KMS, SOPS or Ansible Vault
	FormReference                // where a key is, instead of the key: an ARN, a URL, a path, a template expression
	FormPlaceholder              // what a program writes for a missing value, e.g. "null" or Excel's "#NAME?"
	FormOther                    // DER or base64 of something else
	FormEmpty                    // nothing but white space
	FormTooLarge                 // larger than MaxSize
)

// A Content is what [Inspect] found in a text. Printing it shows nothing of the key. The zero Content is of [FormUnknown]
// and holds no key.
type Content struct {
	Form      Form
	Type      string   // of the private key's PEM block, e.g. "RSA PRIVATE KEY"; "" without one
	Types     []string // of all PEM blocks, in their order, without repetitions; nil without PEM
	Algorithm string   // of FormPKCS8: the object identifier in dotted form; "" if it does not parse
	Cipher    string   // of FormTraditional: from the DEK-Info line, e.g. "AES-256-CBC"; "" if the line names none

	BadCharacter rune // of FormBadCharacter: the character
	Line, Column int  // of FormBadCharacter: its position in the decoded text, from 1

	der func() []byte // a closure, for the same reason as in Key
}

// Inspect finds the private key in the content of a key file, or in a text that holds a key as people paste,
// escape and fold it:
//
//   - DER
//   - PEM, with any line ends or none, with escaped line ends such as "\n" or "%0A" (also escaped several times), with
//     spaces around the lines, and with any number of dashes or none
//   - PEM with text before BEGIN or after END, and with other blocks, e.g. certificates: the first private key counts
//   - the base64 of the DER without BEGIN and END lines, on any number of lines
//   - the DER in hexadecimal, also with colons, spaces, commas, 0x or \x between the bytes
//   - the base64 of any of these, up to three times
//
// base64 may be standard or base64url, padded or not. Text may be UTF-8 or UTF-16, with quotation marks, white space or a
// byte order mark around it. A character that is not base64 is ignored if the DER is complete without it. The form of the
// key comes from the DER, so a wrong label in the BEGIN line does not matter.
//
// Inspect never fails: [Content.Form] says what it found, and [Content.Key] returns the key or an error. It decrypts
// nothing and does not change data. Call [Content.Clear] when the Content is no longer needed.
func Inspect(data []byte) Content {
	switch {
	case len(data) > MaxSize:
		return Content{Form: FormTooLarge}
	case bytes.HasPrefix(data, []byte(javaKeyStore)):
		return Content{Form: FormKeystore}
	case isDER(data):
		return inspectDER(bytes.Clone(data))
	default:
		return inspectText(data, maxLayers)
	}
}

// Key returns the private key of [FormPKCS8] or [FormPKCS1]. Its errors are those of [Parse]. They name the form that was
// found, and quote nothing of the text but the types of its PEM blocks and the character of [FormBadCharacter].
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
	case FormBadCharacter:
		return nil, fmt.Errorf("%w: %s", ErrNotKey, c.BadCharacterText())
	case FormPKCS12:
		return nil, fmt.Errorf("%w: it is a PKCS#12 file", ErrNotKey)
	case FormKeystore:
		return nil, fmt.Errorf("%w: it is a Java KeyStore", ErrNotKey)
	case FormJWK:
		return nil, fmt.Errorf("%w: it is a JSON Web Key", ErrNotKey)
	case FormPuTTY:
		return nil, fmt.Errorf("%w: it has PuTTY's own format", ErrNotKey)
	case FormCiphertext:
		return nil, fmt.Errorf("%w: it is ciphertext of KMS, SOPS or Ansible Vault", ErrNotKey)
	case FormReference:
		return nil, fmt.Errorf("%w: it names a place where a key may be", ErrNotKey)
	case FormPlaceholder:
		return nil, fmt.Errorf("%w: it is what a program writes where a value is missing", ErrNotKey)
	}
	if c.Type != "" {
		return nil, fmt.Errorf("%w: its %s block is damaged", ErrNotKey, c.Type)
	}
	return nil, ErrNotKey
}

// DER returns the DER structure that was found, nil if there is none. It is not a copy: do not change it.
func (c Content) DER() []byte {
	if c.der == nil {
		return nil
	}
	return c.der()
}

// BadCharacterText describes the character of [FormBadCharacter] and its position, for an error message.
func (c Content) BadCharacterText() string {
	return fmt.Sprintf("the character %q (%U) in line %d, column %d is no base64", c.BadCharacter, c.BadCharacter, c.Line, c.Column)
}

// Clear overwrites the DER with zeros.
func (c Content) Clear() { clear(c.DER()) }

// isDER distinguishes DER from text. Both can begin with 0x30, the digit 0. A key's DER goes on with a length of
// several bytes, which is no UTF-8; a shorter structure ends where its length says.
func isDER(data []byte) bool {
	return len(data) >= 2 && data[0] == 0x30 && (data[1]&^3 == 0x80 || int(data[1]) == len(data)-2)
}

const oidRSA = "1.2.840.113549.1.1.1"

// pkcs7 is the beginning of the object identifiers of PKCS#7's contents.
const pkcs7 = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"

// isPKCS12 reports whether der begins as PKCS#12 does: with the version 3, and a content of PKCS#7. Some programs write
// it in BER, without lengths.
func isPKCS12(der []byte) bool {
	start := der[:min(len(der), 32)]
	version := bytes.Index(start, []byte("\x02\x01\x03\x30"))
	return version > 0 && bytes.Contains(start[version:], []byte(pkcs7))
}

// exact reports whether a structure ends where its length says.
func exact(der []byte) bool {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(der, &outer)
	return err == nil && len(rest) == 0
}

// inspectDER inspects a DER structure. The Content keeps der, without a copy.
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

// formOf distinguishes structures by their first two elements.
func formOf(der []byte) Form {
	if isPKCS12(der) {
		return FormPKCS12
	}
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
