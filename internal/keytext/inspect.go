// Package keytext finds the key in a text that holds one as tools write it and as people paste, escape and fold it. The
// package keyfile and the sidecar share it, so that both find the same key in the same text.
//
// It decrypts nothing, checks no key, and never puts any part of a key into what it prints. It imports the standard
// library only.
package keytext

import (
	"bytes"
	"encoding/asn1"
	"fmt"
)

// MaxSize is the size in bytes of the largest text that is read. An RSA key of 8192 bits has 4.7 KB as DER and 6.5 KB as
// encrypted PEM; the text may also hold certificates.
const MaxSize = 64 << 10

// A Form says what [Inspect] found.
type Form int

// The forms. keyfile.Parse reads FormPKCS8 and FormPKCS1, and returns an error for each other one.
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

	der func() []byte // a closure, for the same reason as in keyfile.Key
}

// Inspect finds the private key in a text, in any of the forms that keyfile.Parse lists.
//
// It never fails: [Content.Form] says what it found, and keyfile.Parse returns the key in [Content.DER] or an error. It
// decrypts nothing and does not change data. Call [Content.Clear] when the Content is no longer needed.
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

// OIDOfRSA is the Algorithm of an RSA key.
const OIDOfRSA = "1.2.840.113549.1.1.1"

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
