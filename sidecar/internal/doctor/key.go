package doctor

import (
	"fmt"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

var keyChecks = group{
	applies: func(*facts) string { return "" },
	checks: []check{
		{"passphrase", []string{"key decryption", "passphrase decryption"}, judgePassphrase},
		{"key", []string{"passphrase"}, judgeKey},
	},
}

// keyFacts are about the newest key, which may not be published yet.
type keyFacts struct {
	there      bool // its text was read
	login      decrypt.Login
	encryption string // "" when it is not encrypted
	remark     string // how its passphrase had to be read
	key        *keyfile.Key
	err        error
}

func readKey(of config.Key, a *awsFacts) keyFacts {
	text, passphrase := of.SecretKey, of.Passphrase
	if of.KeyParameter != "" {
		text = a.key.value
	}
	if of.PassphraseParameter != "" {
		passphrase = a.passphrase.value
	}
	k := keyFacts{there: text.IsSet() && (of.PassphraseParameter == "" || passphrase.IsSet())}
	if k.there {
		var stored decrypt.Stored
		stored, k.err = decrypt.Parse(text, passphrase)
		stored.Passphrase.Clear()
		k.login, k.encryption, k.key, k.remark = stored.Login, stored.Encryption, stored.Key, stored.Remark()
	}
	return k
}

// bestKey is the newest, or the published one if the newest cannot be read.
func (f *facts) bestKey() *keyfile.Key {
	if f.key.key != nil {
		return f.key.key
	}
	return f.directory.published
}

func judgePassphrase(f *facts) finding {
	k := f.key
	switch {
	case !k.there:
		return blocked("the key was not read")
	case failure.Class(k.err) == keyfile.ClassPassphrase && k.err != nil:
		return failed(k.err)
	case k.err != nil:
		return skip("the key cannot be used with any passphrase")
	case k.encryption == "":
		return skip("the key is not encrypted")
	case k.remark != "":
		return warn(k.remark, decrypt.RemarkAdvice)
	default:
		return ok("opens the key")
	}
}

func judgeKey(f *facts) finding {
	k := f.key
	if k.err != nil {
		return failed(k.err)
	}
	how := "not encrypted"
	if k.encryption != "" {
		how = k.encryption
	}
	return ok(fmt.Sprintf("RSA %d, %s (%s)", k.key.RSA().N.BitLen(), k.key.Fingerprint(), how))
}
