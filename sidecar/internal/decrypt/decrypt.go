// Package decrypt turns the text in which a Snowflake key is stored into the key: PEM or its bare
// body, encrypted or not, also inside the JSON of a secret that AWS rotates. It reads every form that
// openssl writes, or names the form that it does not read and the command that converts it.
// [keyfile.Inspect] finds the key in the text, as the Go helper finds it in a key file.
//
// It never fetches or writes anything, and no error it gives repeats any part of its input.
package decrypt

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// Stored is what a stored text holds. Beside an error it has the fields that are known despite the error.
type Stored struct {
	Key        *keyfile.Key // nil beside an error
	Encryption string       // in openssl's words: "aes-256-cbc, PBKDF2 with hmacWithSHA256, 600000 iterations"; "" without, or with one that is refused
	Login      Login        // the zero Login unless a managed secret names one
	Managed    bool         // a managed secret: see [IsManagedSecret]
}

// Parse reads the private key in text, with the passphrase if the key is encrypted; a key that is not
// encrypted needs none and ignores the one given. A managed secret's own passphrase serves when none
// is given.
//
// Its errors are *failure.Error of class unreadable_key or passphrase.
func Parse(text, passphrase secret.Value) (stored Stored, err error) {
	secret.Do(func() { stored, err = parse(text, passphrase) })
	return stored, err
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
	found := keyfile.Inspect(text.Bytes())
	defer found.Clear()
	switch found.Form {
	case keyfile.FormEncrypted:
		return parseEncrypted(found.DER(), passphrase)
	case keyfile.FormPKCS8, keyfile.FormPKCS1:
		key, err := found.Key()
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
	encryption, err := examine(der)
	if err != nil {
		return Stored{}, err
	}
	key, err := decrypt(der, passphrase)
	return Stored{Key: key, Encryption: encryption}, err
}

// decrypt takes only what examine has let through.
func decrypt(der []byte, passphrase secret.Value) (*keyfile.Key, error) {
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
			return usable(keyfile.FromRSA(private))
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

// usable adds to keyfile's error what to do.
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
