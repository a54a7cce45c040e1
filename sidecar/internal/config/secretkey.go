package config

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// sharedSecretKeyName has no prefix, so that an application may have a variable of this name, as those of Django and
// Flask do.
const sharedSecretKeyName = "SECRET_KEY"

// An environmentKey says what the environment has of a key: which variable its text is from, and what is the application's.
type environmentKey struct {
	shared   secret.Value // of SECRET_KEY, until it is taken or dropped
	variable string       // the one that the text is from
	unused   bool         // SECRET_KEY holds a private key, which is the application's
	repeated bool         // SECRET_KEY holds the key of SNOWKEY_SECRET_KEY

	othersPassphrase bool // PRIVATE_KEY_PASSPHRASE is the application's
}

// takeSecretKey takes the key's text from SECRET_KEY, unless a setting of the sidecar's own says which key is meant: then
// it is the application's.
func (k *Key) takeSecretKey(named bool) {
	shared := k.inEnvironment.shared
	k.inEnvironment.shared = secret.Value{}
	switch {
	case k.SecretKey.IsSet():
		k.inEnvironment.variable = secretKeyText.name()
		k.inEnvironment.repeated = shared.IsSet() && decrypt.SameKey(shared, k.SecretKey)
	case !named && k.KeyParameter == "" && shared.IsSet():
		k.SecretKey, k.inEnvironment.variable = shared, sharedSecretKeyName
		return
	}
	k.inEnvironment.unused = bytes.Contains(shared.Bytes(), []byte("PRIVATE KEY-----"))
	shared.Clear()
}

// takePassphrase leaves PRIVATE_KEY_PASSPHRASE to the application if a parameter holds the key's passphrase, or a --key
// says all about it.
func (k *Key) takePassphrase(named bool) {
	if named || k.PassphraseParameter != "" && !k.SecretKey.IsSet() {
		k.Passphrase.Clear()
		k.Passphrase, k.inEnvironment.othersPassphrase = secret.Value{}, true
	}
}

// checkSecretKey refuses a text that is empty, as an empty template or compose file sets it, and an application's secret.
// A text that is plainly something else is left to the reader of keys, which names it.
func (k *Key) checkSecretKey() error {
	switch {
	case !k.SecretKey.IsSet():
		return nil
	case len(k.SecretKey.Bytes()) == 0:
		return fmt.Errorf("%s: set, but to nothing; put the key's PEM in it, or unset it", k.inEnvironment.variable)
	case k.inEnvironment.variable == sharedSecretKeyName && !decrypt.Recognizes(k.SecretKey):
		return errors.New("SECRET_KEY is taken for the key's text, since no parameter is named, and it is no key; if it is the application's own, " +
			"name the key's parameter in --key-parameter (SNOWKEY_KEY_PARAMETER), or put the key's PEM in SNOWKEY_SECRET_KEY: then SECRET_KEY is left alone")
	}
	return nil
}
