// Package decrypt turns the text in which a Snowflake key is stored into the key: PEM or its bare
// body, encrypted or not, in every form that openssl writes or with the name of the form that is
// not read and the command that converts it; also inside the JSON of a secret that AWS rotates.
//
// It never fetches or writes anything, and no error it gives repeats any part of its input.
package decrypt

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Key reads a private key from text, with the passphrase if the key is encrypted; a key that is not
// encrypted needs none and ignores the one given. A managed secret's own passphrase serves when none
// is given.
//
// Its errors are *failure.Error of class unreadable_key or passphrase.
func Key(text, passphrase secret.Value) (key *keyfile.Key, err error) {
	secret.Do(func() { key, err = keyOf(text, passphrase) })
	return key, err
}

func keyOf(text, passphrase secret.Value) (*keyfile.Key, error) {
	if IsManagedSecret(text) {
		stored, err := parseManagedSecret(text.Bytes())
		if err != nil {
			return nil, err
		}
		text, passphrase = stored.parts(passphrase)
	}
	return keyIn(text, passphrase)
}

func keyIn(text, passphrase secret.Value) (*keyfile.Key, error) {
	der, err := derOf(text.Bytes())
	if err != nil {
		return nil, err
	}
	defer clear(der)
	switch shapeOf(der) {
	case shapeEncrypted:
		return decrypt(der, passphrase)
	case shapePKCS8:
		return fromPKCS8(der)
	case shapePKCS1:
		private, err := x509.ParsePKCS1PrivateKey(der)
		return accept(private, err)
	case shapeEC:
		return nil, notRSA("an EC key")
	case shapePublic:
		return nil, unreadable(errors.New("the value holds a public key or certificate, not a private key"),
			"store the private key's PEM")
	case shapeTruncated:
		return nil, truncated(errors.New("it ends before its own length says"))
	default:
		return nil, unreadable(errors.New("the value is not a private key in any form known here"),
			"store the text of the key file, from -----BEGIN to -----END")
	}
}

func decrypt(der []byte, passphrase secret.Value) (*keyfile.Key, error) {
	if err := examine(der); err != nil {
		return nil, err
	}
	if !passphrase.IsSet() {
		return nil, failure.New(keyfile.ClassPassphrase, errors.New("the key is encrypted and no passphrase was given"),
			"set PRIVATE_KEY_PASSPHRASE, or beside --key-parameter name its parameter in --passphrase-parameter")
	}
	for _, candidate := range candidates(passphrase.Bytes()) {
		parsed, _, err := pkcs8.ParsePrivateKey(der, candidate)
		if err != nil {
			continue
		}
		switch private := parsed.(type) {
		case *rsa.PrivateKey:
			return accept(private, nil)
		case *ecdsa.PrivateKey:
			return nil, notRSA("an EC key")
		default:
			return nil, notRSA("a key of another kind")
		}
	}
	return nil, failure.New(keyfile.ClassPassphrase,
		errors.New("the passphrase does not open the key (or what it opens is not an RSA key)"),
		"try it with: openssl pkey -in KEY.p8 -noout, and store the key and passphrase that belong together")
}

// candidates are the passphrase as it is and, when it ends in a line break, without: a passphrase
// stored from a file has one, and openssl, reading the same file, drops it.
//
// youmark/pkcs8 takes an empty passphrase for none. HMAC pads its key with zeros (RFC 2104), and
// PBKDF2 and scrypt meet the passphrase only as an HMAC key, so one zero byte is the same passphrase.
func candidates(passphrase []byte) [][]byte {
	all := [][]byte{passphrase}
	end := len(passphrase)
	if end > 0 && passphrase[end-1] == '\n' {
		end--
		if end > 0 && passphrase[end-1] == '\r' {
			end--
		}
		all = append(all, passphrase[:end])
	}
	for i := range all {
		if len(all[i]) == 0 {
			all[i] = []byte{0}
		}
	}
	return all
}

func fromPKCS8(der []byte) (*keyfile.Key, error) {
	var info struct {
		Version   int
		Algorithm algorithm
		Key       []byte
	}
	const oidRSA = "1.2.840.113549.1.1.1"
	if _, err := asn1.Unmarshal(der, &info); err == nil && info.Algorithm.OID.String() != oidRSA {
		return nil, notRSA("a key of type " + nameOf(info.Algorithm.OID.String()))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	private, _ := parsed.(*rsa.PrivateKey)
	return accept(private, err)
}

func accept(private *rsa.PrivateKey, err error) (*keyfile.Key, error) {
	if err != nil || private == nil {
		return nil, unreadable(errors.New("the RSA key in the value is damaged or shorter than 1024 bits"),
			"check it with: openssl pkey -in KEY.p8 -noout -check")
	}
	key, err := keyfile.FromRSA(private)
	if err != nil {
		return nil, unreadable(err, "make another: openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out KEY.p8")
	}
	return key, nil
}

func notRSA(what string) error {
	return unreadable(fmt.Errorf("the value holds %s, and Snowflake takes RSA only", what),
		"make another: openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out KEY.p8")
}

type shape int

const (
	shapeUnknown shape = iota
	shapeTruncated
	shapeEncrypted // PKCS#8 EncryptedPrivateKeyInfo: SEQUENCE, OCTET STRING
	shapePKCS8     // PrivateKeyInfo: INTEGER, SEQUENCE
	shapePKCS1     // RSAPrivateKey: INTEGER, INTEGER
	shapeEC        // ECPrivateKey: INTEGER, OCTET STRING
	shapePublic    // SubjectPublicKeyInfo: SEQUENCE, BIT STRING; Certificate: SEQUENCE, SEQUENCE
)

// shapeOf tells by its first two elements what a DER structure is, so that a wrong label or none
// makes no difference.
func shapeOf(der []byte) shape {
	var outer, first, second asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		if len(der) > 0 && der[0] == 0x30 {
			return shapeTruncated
		}
		return shapeUnknown
	}
	rest, err := asn1.Unmarshal(outer.Bytes, &first)
	if err != nil {
		return shapeUnknown
	}
	if _, err := asn1.Unmarshal(rest, &second); err != nil {
		return shapeUnknown
	}
	switch [2]int{first.Tag, second.Tag} {
	case [2]int{asn1.TagSequence, asn1.TagOctetString}:
		return shapeEncrypted
	case [2]int{asn1.TagInteger, asn1.TagSequence}:
		return shapePKCS8
	case [2]int{asn1.TagInteger, asn1.TagInteger}:
		return shapePKCS1
	case [2]int{asn1.TagInteger, asn1.TagOctetString}:
		return shapeEC
	case [2]int{asn1.TagSequence, asn1.TagBitString}, [2]int{asn1.TagSequence, asn1.TagSequence}:
		return shapePublic
	default:
		return shapeUnknown
	}
}
