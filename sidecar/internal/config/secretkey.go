package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// sharedSecretKeyName has no prefix, so that an application may have a variable of this name, as those of Django and
// Flask do.
const sharedSecretKeyName = "SECRET_KEY"

// An origin says where a key's text and passphrase in the environment are from.
type origin struct {
	shared   secret.Value // of SECRET_KEY, until it is taken or dropped
	variable string       // the one that the text is from
	unused   bool         // SECRET_KEY holds a private key, which is the application's

	othersPassphrase bool // PRIVATE_KEY_PASSPHRASE is the application's
}

// takeSecretKey takes the key's text from SECRET_KEY, unless a setting of the sidecar's own says which key is meant: then
// it is the application's.
func (k *Key) takeSecretKey(named bool) {
	shared := k.from.shared
	k.from.shared = secret.Value{}
	switch {
	case k.SecretKey.IsSet():
		k.from.variable = secretKeyText.name()
	case !named && k.KeyParameter == "" && shared.IsSet():
		k.SecretKey, k.from.variable = shared, sharedSecretKeyName
		return
	}
	k.from.unused = bytes.Contains(shared.Bytes(), []byte("PRIVATE KEY-----"))
	shared.Clear()
}

// takePassphrase leaves PRIVATE_KEY_PASSPHRASE to the application if a parameter holds the key's passphrase, or a --key
// says all about it.
func (k *Key) takePassphrase(named bool) {
	if named || k.PassphraseParameter != "" && !k.SecretKey.IsSet() {
		k.Passphrase.Clear()
		k.Passphrase, k.from.othersPassphrase = secret.Value{}, true
	}
}

// checkSecretKey refuses a text that is empty, as an empty template or compose file sets it, and an application's secret.
func (k *Key) checkSecretKey() error {
	switch text := k.SecretKey.Bytes(); {
	case !k.SecretKey.IsSet():
		return nil
	case len(text) == 0:
		return fmt.Errorf("%s: set, but to nothing; put the key's PEM in it, or unset it", k.from.variable)
	case k.from.variable == sharedSecretKeyName && plainlyNoKey(text):
		return errors.New("SECRET_KEY is taken for the key's text, since no parameter is named, and it is no key; if it is the application's own, " +
			"name the key's parameter in --key-parameter (SNOWKEY_KEY_PARAMETER), or put the key's PEM in SNOWKEY_SECRET_KEY: then SECRET_KEY is left alone")
	}
	return nil
}

// shortestKey is less than the base64 of any RSA key that Snowflake takes.
const shortestKey = 1000

// keyBeginning matches JSON, and the base64 of DER and PEM, with or without a byte order mark and quotes before it.
var keyBeginning = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("^[\ufeff\\s\"']*(\\{|M[A-P]|LS0t)") })

// plainlyNoKey leaves to the reader of keys what is empty, or may be a key that cannot be read: it names that better.
func plainlyNoKey(text []byte) bool {
	return len(text) < shortestKey && len(bytes.TrimSpace(text)) > 0 &&
		!bytes.Contains(text, []byte("-----")) && !keyBeginning().Match(text)
}
