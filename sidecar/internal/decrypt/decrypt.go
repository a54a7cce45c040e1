// Package decrypt turns the text in which a Snowflake key is stored into the key: PEM or its bare
// body, encrypted or not, also inside the JSON of a secret that AWS rotates. It reads every form that
// openssl writes, or names the form that it does not read and the command that converts it.
// [keytext.Inspect] finds the key in the text, as the Go helper finds it in a key file.
//
// It never fetches or writes anything, and no error it gives repeats any part of its input.
package decrypt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Stored is the content of a stored text. Beside an error it has the fields that are known despite the error.
type Stored struct {
	Key        *keyfile.Key // nil beside an error
	Encryption string       // in openssl's words: "aes-256-cbc, PBKDF2 with hmacWithSHA256, 600000 iterations"; "" if the key is not encrypted, or in a way that is refused
	Login      Login        // the zero Login unless a managed secret names one
	Passphrase secret.Value // a copy of what opens the key, perhaps not quite what was given; not set without encryption
	Reading    string       // how Passphrase was read, e.g. "without the line break after it"; "" as it was given
	Managed    bool         // a managed secret: see [IsManagedSecret]
}

// Remark says how the passphrase had to be read to open the key, "" if it opens the key as given. It repeats nothing of
// the passphrase.
func (s Stored) Remark() string {
	if s.Reading == "" {
		return ""
	}
	return "the passphrase opens the key only " + s.Reading
}

// RemarkAdvice is the advice beside a [Stored.Remark].
const RemarkAdvice = "store it like that: other programs try it only as it is"

// Parse reads the private key in text, with the passphrase if the key is encrypted; a key that is not
// encrypted needs none and ignores the one given. A managed secret's own passphrase serves when none
// is given.
//
// Its errors are *failure.Error of class unreadable_key or passphrase.
func Parse(text, passphrase secret.Value) (stored Stored, err error) {
	secret.Do(func() { stored, err = parse(text, passphrase) })
	return stored, err
}

// Recognizes reports whether Parse reads text, or names it in its error. It does not know other secrets, such as an
// application's.
func Recognizes(text secret.Value) (known bool) {
	secret.Do(func() { known = recognizes(text) })
	return known
}

func recognizes(text secret.Value) bool {
	object := jsonIn(text.Bytes())
	defer clear(object)
	if json.Valid(object) {
		return true
	}
	found := keytext.Inspect(text.Bytes())
	defer found.Clear()
	switch {
	case found.Types != nil:
		return true
	case found.Form == keytext.FormTruncated: // DER of some length; base64 of anything may begin with its first byte
		return bytes.HasPrefix(found.DER(), []byte("\x30\x82"))
	default:
		return !slices.Contains([]keytext.Form{keytext.FormUnknown, keytext.FormOther, keytext.FormBadCharacter}, found.Form)
	}
}

// SameKey reports whether two texts hold the same key, in whatever form, or are equal.
func SameKey(a, b secret.Value) (same bool) {
	secret.Do(func() {
		x, y := keytext.Inspect(keyText(a).Bytes()), keytext.Inspect(keyText(b).Bytes())
		defer x.Clear()
		defer y.Clear()
		same = bytes.Equal(a.Bytes(), b.Bytes()) || x.DER() != nil && bytes.Equal(x.DER(), y.DER())
	})
	return same
}

// keyText is the text of the key alone, of a managed secret too.
func keyText(text secret.Value) secret.Value {
	if !IsManagedSecret(text) {
		return text
	}
	stored, err := parseManagedSecret(text.Bytes())
	if err != nil {
		return text
	}
	key, _ := stored.parts(secret.Value{})
	return key
}

func parse(text, passphrase secret.Value) (Stored, error) {
	if !IsManagedSecret(text) {
		return parseKey(text, passphrase)
	}
	managed, err := parseManagedSecret(text.Bytes())
	if err != nil {
		return Stored{Managed: true}, err
	}
	stored, err := parseKey(managed.parts(passphrase))
	stored.Managed, stored.Login = true, managed.login()
	return stored, err
}

func parseKey(text, passphrase secret.Value) (Stored, error) {
	found := keytext.Inspect(text.Bytes())
	defer found.Clear()
	stored, err := parseFound(found, text, passphrase)
	return stored, restoreFirst(err, text.Bytes(), found)
}

func parseFound(found keytext.Content, text, passphrase secret.Value) (Stored, error) {
	switch found.Form {
	case keytext.FormEncrypted:
		return parseEncrypted(found.DER(), passphrase)
	case keytext.FormPKCS8, keytext.FormPKCS1:
		key, err := keyfile.Parse(found.DER())
		if errors.Is(err, keyfile.ErrNotRSA) {
			return Stored{}, notRSA("a key of type " + nameOf(found.Algorithm))
		}
		key, err = usable(key, err)
		return Stored{Key: key}, err
	default:
		return Stored{}, formError(found, len(text.Bytes()))
	}
}

func parseEncrypted(der []byte, passphrase secret.Value) (Stored, error) {
	key, err := examine(der)
	if err != nil {
		return Stored{}, err
	}
	stored := Stored{Encryption: key.String()}
	if !passphrase.IsSet() {
		return stored, failure.New(keyfile.ClassPassphrase, errors.New("the key is encrypted and no passphrase was given"),
			"set PRIVATE_KEY_PASSPHRASE, or beside --key-parameter name its parameter in --passphrase-parameter")
	}
	for tried := range readings(passphrase, key.kdf.tries(key.cipher.keySize())) {
		found, err := key.try(tried.passphrase)
		if errors.Is(err, errPassphrase) {
			continue
		}
		if stored.Key = found; found != nil {
			stored.Passphrase, stored.Reading = secret.New(bytes.Clone(tried.passphrase)), strings.Join(tried.how, ", ")
		}
		return stored, err
	}
	if what := mistaken(passphrase.Bytes()); what != "" {
		return stored, failure.New(keyfile.ClassPassphrase, fmt.Errorf("%w: %s", errPassphrase, what), "store the text of the passphrase alone")
	}
	return stored, failure.New(keyfile.ClassPassphrase, errPassphrase, key.advice())
}

// errPassphrase is why one reading of a passphrase does not open the key.
var errPassphrase = errors.New("the passphrase does not open the key")

func (e encrypted) try(passphrase []byte) (*keyfile.Key, error) {
	der, err := e.open(passphrase)
	if err != nil {
		return nil, errPassphrase
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, notParsed(der)
	}
	private, isRSA := parsed.(*rsa.PrivateKey)
	switch _, isEC := parsed.(*ecdsa.PrivateKey); {
	case isRSA:
		return usable(keyfile.FromRSA(private))
	case isEC:
		return nil, notRSA("an EC key")
	default:
		return nil, notRSA("a key of another kind")
	}
}

// notParsed is the error about decrypted data that is no RSA key. A wrong passphrase seems to fit once in 256 times,
// but what it decrypts is never PKCS#8.
func notParsed(der []byte) error {
	found := keytext.Inspect(der)
	defer found.Clear()
	if found.Form != keytext.FormPKCS8 || found.Algorithm == "" {
		return errPassphrase
	}
	if _, err := keyfile.Parse(der); errors.Is(err, keyfile.ErrNotRSA) {
		return notRSA("a key of type " + nameOf(found.Algorithm))
	}
	_, err := usable(nil, keyfile.ErrNotKey)
	return err
}

// advice is for a passphrase that does not open the key.
func (e encrypted) advice() string {
	const pair = "store the key and passphrase that belong together"
	_, isGCM := e.cipher.(gcm)
	switch {
	case isGCM: // which neither openssl nor Python reads
		return pair
	case !opensslReads(e.kdf):
		return "try it with: " + tryPython + ", and " + pair
	default:
		return "try it with: openssl pkey -in KEY.p8 -noout, and " + pair
	}
}

// usable adds advice to keyfile's error.
func usable(key *keyfile.Key, err error) (*keyfile.Key, error) {
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, keyfile.ErrTooShort), errors.Is(err, keyfile.ErrTooLong),
		errors.Is(err, keyfile.ErrMultiPrime), errors.Is(err, keyfile.ErrNotPrime):
		return nil, unreadable(err, makeAnother)
	default:
		return nil, unreadable(errors.New("the RSA key in the value is damaged or shorter than 1024 bits"),
			"check it with: openssl pkey -in KEY.p8 -noout -check")
	}
}

const makeAnother = "make another: openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out KEY.p8"

func notRSA(what string) error {
	return unreadable(fmt.Errorf("the value holds %s, and Snowflake takes RSA only", what), makeAnother)
}
