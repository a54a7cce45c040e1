package decrypt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// storeText is the advice for a value that is no key file's text.
const storeText = "store the text of the key file, from -----BEGIN to -----END"

// ifExchanged is the advice for a text that may be the passphrase.
const ifExchanged = "if that is the passphrase's parameter, swap --key-parameter and --passphrase-parameter"

// reencrypt turns any key that openssl reads into the form recommended here.
const reencrypt = "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD.p8 -out NEW.p8"

// withLegacy goes after reencrypt where a cipher is in openssl's legacy provider.
const withLegacy = " -provider legacy -provider default (openssl 1.1 has no -provider: leave both out)"

// The same in Python, for what openssl does not read, and a try of a passphrase. Both ask for the passphrase.
const (
	python          = `python3 -c 'import getpass as g, cryptography.hazmat.primitives.serialization as s; `
	tryPython       = python + `s.load_pem_private_key(open("KEY.p8", "rb").read(), g.getpass().encode())'`
	reencryptPython = python + `p = g.getpass().encode(); k = s.load_pem_private_key(open("OLD.p8", "rb").read(), p); ` +
		`open("NEW.p8", "wb").write(k.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(p)))'`
)

// The commands that convert other forms into one that is read here. The first one's result is encrypted, the others go
// through reencrypt.
const (
	fromPKCS12   = "openssl pkcs12 -in KEY.p12 -nocerts -aes256 -out NEW.p8"
	fromKeystore = "keytool -importkeystore -srckeystore KEY.jks -destkeystore KEY.p12 -deststoretype pkcs12, and then " + fromPKCS12
	fromOpenSSH  = "ssh-keygen -p -m PKCS8 -f COPY"
	fromPuTTY    = "puttygen KEY.ppk -O private-openssh -o OLD.p8, and then " + reencrypt
	fromJWK      = `node -e 'process.stdout.write(crypto.createPrivateKey({key: JSON.parse(fs.readFileSync(0)), format: "jwk"})` +
		`.export({type: "pkcs8", format: "pem"}))' < KEY.jwk | openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -out NEW.p8`
)

// legacyDEK are the ciphers of DEK-Info that openssl has in its legacy provider.
var legacyDEK = lazyregexp.New(`^(?:DES-CBC|DES-CFB|DES-OFB|BF|CAST5|IDEA|RC2|SEED)`)

// formError says why a value of size bytes holds no key that can be read, and what to store instead. It names
// what was found and repeats no other part of the value, which may be a secret in the wrong parameter.
func formError(found keytext.Content, size int) error {
	switch found.Form {
	case keytext.FormTooLarge:
		return tooLong(size)
	case keytext.FormEmpty:
		return unreadable(errors.New("the value is empty"), storeText)
	case keytext.FormUnknown:
		if found.Type != "" {
			return unreadable(fmt.Errorf("the %s block of the value is damaged: its base64 is not whole", found.Type), "store the whole file again")
		}
		return unreadable(errors.New("the value is neither PEM nor base64"), storeText+", e.g. --value file://rsa_key.p8; "+ifExchanged)
	case keytext.FormBadCharacter:
		return unreadable(errors.New(found.BadCharacterText()+", and the key is not whole without it"), "store the text of the key file again, as it is")
	case keytext.FormNoKey:
		what := "not a private key"
		if strings.Contains(found.Types[0], "PRIVATE KEY") { // of PGP
			what = "not an RSA key that Snowflake takes"
		}
		return unreadable(fmt.Errorf("the value holds a %s, %s", strings.ToLower(found.Types[0]), what), "store the private key's PEM")
	case keytext.FormPublic:
		return unreadable(errors.New("the value holds a public key or certificate, not a private key"),
			"store the private key's PEM")
	case keytext.FormEC:
		return notRSA("an EC key")
	case keytext.FormOpenSSH:
		return unreadable(errors.New("the value is a key in OpenSSH's own format"),
			"convert a copy with: "+fromOpenSSH)
	case keytext.FormPKCS12:
		command := fromPKCS12
		if hasLegacyCipher(found.DER()) {
			command += " -legacy (openssl 1.1 has no -legacy: leave it out)"
		}
		return unreadable(errors.New("the value is a PKCS#12 file (.p12, .pfx)"), "take the key out of it with: "+command)
	case keytext.FormKeystore:
		return unreadable(errors.New("the value is a Java KeyStore"), "take the key out of it with: "+fromKeystore)
	case keytext.FormJWK:
		return unreadable(errors.New("the value is a JSON Web Key"), "convert it with: "+fromJWK)
	case keytext.FormPuTTY:
		return unreadable(errors.New("the value is a key in PuTTY's own format"), "convert it with: "+fromPuTTY)
	case keytext.FormCiphertext:
		return unreadable(errors.New("the value is still encrypted by AWS KMS, SOPS or Ansible Vault"),
			"decrypt it there first, e.g. with: aws ssm get-parameter --with-decryption --name NAME --query Parameter.Value --output text, and "+storeText)
	case keytext.FormReference:
		return unreadable(errors.New("the value only names a key: it is an ARN, an address, a path, or an expression of a template"),
			"store the text of the key file itself; ECS takes an ARN under secrets, not under environment")
	case keytext.FormPlaceholder:
		return unreadable(errors.New("the value is what a program leaves where a key is missing, such as null, or #NAME? of a spreadsheet"), storeText)
	case keytext.FormTraditional:
		cipher := found.Cipher
		if cipher == "" {
			cipher = "unknown"
		}
		command := reencrypt
		if legacyDEK().MatchString(cipher) {
			command += withLegacy
		}
		return unreadable(fmt.Errorf("the key is encrypted the traditional PEM way (DEK-Info: %s), which is not read here", cipher),
			"encrypt it again with: "+command)
	case keytext.FormNoEnd:
		return truncated(fmt.Errorf("no END %s line", found.Type))
	case keytext.FormTruncated:
		return truncated(errors.New("it ends before its own length says"))
	default:
		return unreadable(errors.New("the value is not a private key in any form known here"), storeText)
	}
}

func tooLong(size int) error {
	return unreadable(fmt.Errorf("the value has %d bytes, and no key is longer than %d", size, keyfile.MaxSize),
		"store the key alone: "+reencrypt)
}

func truncated(cause error) error {
	return unreadable(fmt.Errorf("the key is truncated: %w", cause), "store the whole file again")
}

func unreadable(cause error, do string) error {
	return failure.New(keyfile.ClassUnreadableKey, cause, do)
}
