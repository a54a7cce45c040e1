package decrypt

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// The structures of PKCS#5 v2 (RFC 8018), as far as they are examined before anything is run.
type (
	algorithm struct {
		OID        asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	encryptedKey struct {
		Algorithm algorithm
		Data      []byte
	}
	pbes2 struct {
		KDF    algorithm
		Cipher algorithm
	}
)

const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11"
)

// maxEncrypted is the most that is decrypted, in bytes. An RSA key of keyfile.MaxBits has 4.7 KB.
const maxEncrypted = keyfile.MaxBits

// A refused algorithm has openssl's name for it. A legacy one needs openssl's legacy provider; a foreign one is not
// in openssl.
type refused struct {
	name            string
	legacy, foreign bool
}

var refusals = map[string]refused{
	"1.2.840.113549.1.5.1":      {name: "pbeWithMD2AndDES-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.5.3":      {name: "pbeWithMD5AndDES-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.5.4":      {name: "pbeWithMD2AndRC2-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.5.6":      {name: "pbeWithMD5AndRC2-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.5.10":     {name: "pbeWithSHA1AndDES-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.5.11":     {name: "pbeWithSHA1AndRC2-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.12.1.1":   {name: "pbeWithSHA1And128BitRC4 (PBES1)", legacy: true},
	"1.2.840.113549.1.12.1.2":   {name: "pbeWithSHA1And40BitRC4 (PBES1)", legacy: true},
	"1.2.840.113549.1.12.1.3":   {name: "pbeWithSHA1And3-KeyTripleDES-CBC (PBES1)"},
	"1.2.840.113549.1.12.1.4":   {name: "pbeWithSHA1And2-KeyTripleDES-CBC (PBES1)"},
	"1.2.840.113549.1.12.1.5":   {name: "pbeWithSHA1And128BitRC2-CBC (PBES1)", legacy: true},
	"1.2.840.113549.1.12.1.6":   {name: "pbeWithSHA1And40BitRC2-CBC (PBES1)", legacy: true},
	"1.3.14.3.2.7":              {name: "des-cbc", legacy: true},
	"1.2.840.113549.3.2":        {name: "rc2-cbc", legacy: true},
	"1.3.6.1.4.1.3029.1.2":      {name: "bf-cbc", legacy: true},
	"1.2.840.113533.7.66.10":    {name: "cast5-cbc", legacy: true},
	"1.2.410.200004.1.4":        {name: "seed-cbc", legacy: true},
	"1.2.392.200011.61.1.1.1.2": {name: "camellia-128-cbc"},
	"1.2.392.200011.61.1.1.1.3": {name: "camellia-192-cbc"},
	"1.2.392.200011.61.1.1.1.4": {name: "camellia-256-cbc"},
	"1.2.410.200046.1.1.2":      {name: "aria-128-cbc"},
	"1.2.410.200046.1.1.7":      {name: "aria-192-cbc"},
	"1.2.410.200046.1.1.12":     {name: "aria-256-cbc"},
	"1.2.156.10197.1.104.2":     {name: "sm4-cbc"},
	"2.16.840.1.101.3.4.1.3":    {name: "aes-128-ofb"},
	"2.16.840.1.101.3.4.1.4":    {name: "aes-128-cfb"},
	"2.16.840.1.101.3.4.1.23":   {name: "aes-192-ofb"},
	"2.16.840.1.101.3.4.1.24":   {name: "aes-192-cfb"},
	"2.16.840.1.101.3.4.1.43":   {name: "aes-256-ofb"},
	"2.16.840.1.101.3.4.1.44":   {name: "aes-256-cfb"},
	"1.2.156.10197.1.401.2":     {name: "hmacWithSM3", foreign: true},
	"1.2.643.7.1.1.4.1":         {name: "HMAC GOST 34.11-2012 256 bit", foreign: true},
	"1.2.643.7.1.1.4.2":         {name: "HMAC GOST 34.11-2012 512 bit", foreign: true},
	"1.2.840.10040.4.1":         {name: "DSA"},
	"1.2.840.10046.2.1":         {name: "X9.42 DH"},
	"1.2.840.113549.1.1.10":     {name: "RSA-PSS"},
	"1.2.840.113549.1.3.1":      {name: "DH"},
	"1.2.840.10045.2.1":         {name: "EC"},
	"1.3.101.110":               {name: "X25519"},
	"1.3.101.111":               {name: "X448"},
	"1.3.101.112":               {name: "Ed25519"},
	"1.3.101.113":               {name: "Ed448"},
}

func nameOf(oid string) string {
	if known, ok := refusals[oid]; ok {
		return known.name
	}
	return "an algorithm with the object identifier " + oid
}

// hasLegacyCipher reports whether a PKCS#12 file names a cipher that openssl has in its legacy provider. It may be BER,
// which encoding/asn1 does not parse.
func hasLegacyCipher(file []byte) bool {
	for dotted, known := range refusals {
		if known.legacy && bytes.Contains(file, encodeOID(dotted)) {
			return true
		}
	}
	return false
}

func encodeOID(dotted string) []byte {
	oid, _ := x509.ParseOID(dotted)
	content, _ := oid.MarshalBinary()
	return append([]byte{asn1.TagOID, byte(len(content))}, content...)
}

// refuse names the algorithm that is not read, and the command that converts the key.
func refuse(oid string) error {
	known, found := refusals[oid]
	advice := "encrypt it again with: " + reencrypt
	switch {
	case known.legacy:
		advice += withLegacy
	case known.foreign || !found:
		advice = "encrypt it again, with the program that encrypted it, as aes-256-cbc and PBKDF2, or " + makeAnother
	}
	return unreadable(fmt.Errorf("the key is encrypted with %s, which is not read here", nameOf(oid)), advice)
}

// An encrypted is a key whose encryption was examined: it can be run.
type encrypted struct {
	kdf    kdf
	cipher cipher
	data   []byte
}

// String is the encryption in openssl's words.
func (e encrypted) String() string { return e.cipher.name() + ", " + e.kdf.String() }

// examine refuses what cannot be decrypted here, what would take too long, and what would make a cipher panic, before
// a passphrase is tried.
func examine(der []byte) (encrypted, error) {
	var key encryptedKey
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return encrypted{}, truncated(errors.New("its structure does not parse"))
	}
	if oid := key.Algorithm.OID.String(); oid != oidPBES2 {
		return encrypted{}, refuse(oid)
	}
	var scheme pbes2
	if err := unmarshal(key.Algorithm, &scheme); err != nil {
		return encrypted{}, damaged("PBES2")
	}
	if len(key.Data) > maxEncrypted {
		return encrypted{}, unreadable(keyfile.ErrTooLong, makeAnother)
	}
	cipher, err := examineCipher(scheme.Cipher, len(key.Data))
	if err != nil {
		return encrypted{}, err
	}
	kdf, err := examineKDF(scheme.KDF, cipher.keySize())
	if err != nil {
		return encrypted{}, err
	}
	return encrypted{kdf: kdf, cipher: cipher, data: key.Data}, nil
}

// open decrypts the key with one reading of the passphrase. The result is PKCS#8, unless the passphrase is wrong.
func (e encrypted) open(passphrase []byte) ([]byte, error) {
	key, err := e.kdf.deriveKey(passphrase, e.cipher.keySize())
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return e.cipher.decrypt(key, e.data)
}

// A kdf is a key derivation. It prints in openssl's words.
type kdf interface {
	fmt.Stringer
	examine(keySize int) error
	tries(keySize int) int // how many passphrases may be tried within the time of a start
	deriveKey(passphrase []byte, size int) ([]byte, error)
}

func examineKDF(of algorithm, keySize int) (kdf, error) {
	var params kdf
	oid := of.OID.String()
	switch oid {
	case oidPBKDF2:
		params = new(pbkdf2Params)
	case oidScrypt:
		params = new(scryptParams)
	default:
		return nil, refuse(oid)
	}
	if err := unmarshal(of, params); err != nil {
		return nil, damaged("key derivation")
	}
	return params, params.examine(keySize)
}

func unmarshal(a algorithm, into any) error {
	_, err := asn1.Unmarshal(a.Parameters.FullBytes, into)
	return err
}

func damaged(what string) error {
	return unreadable(fmt.Errorf("the key's %s parameters are damaged", what), "store the whole file again")
}
