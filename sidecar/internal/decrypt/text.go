package decrypt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// storeText is the advice for a value that is no key file's text.
const storeText = "store the text of the key file, from -----BEGIN to -----END"

// reencrypt turns any key that openssl reads into the form recommended here.
const reencrypt = "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD.p8 -out NEW.p8"

// formError says why a value of size bytes holds no key that can be read, and what to store instead. It names
// what was found and repeats no other part of the value, which may be a secret in the wrong parameter.
func formError(found keyfile.Content, size int) error {
	switch found.Form {
	case keyfile.FormTooLarge:
		return tooLong(size)
	case keyfile.FormEmpty:
		return unreadable(errors.New("the value is empty"), storeText)
	case keyfile.FormUnknown:
		return unreadable(errors.New("the value is neither PEM nor base64"), storeText+", e.g. --value file://rsa_key.p8")
	case keyfile.FormNoKey:
		return unreadable(fmt.Errorf("the value holds a %s, not a private key", strings.ToLower(found.Types[0])),
			"store the private key's PEM")
	case keyfile.FormPublic:
		return unreadable(errors.New("the value holds a public key or certificate, not a private key"),
			"store the private key's PEM")
	case keyfile.FormEC:
		return notRSA("an EC key")
	case keyfile.FormOpenSSH:
		return unreadable(errors.New("the value is a key in OpenSSH's own format"),
			"convert a copy with ssh-keygen -p -m PKCS8 -f COPY")
	case keyfile.FormTraditional:
		cipher := found.Cipher
		if cipher == "" {
			cipher = "unknown"
		}
		return unreadable(fmt.Errorf("the key is encrypted the traditional PEM way (DEK-Info: %s), which is not read here", cipher),
			"encrypt it again with: "+reencrypt)
	case keyfile.FormNoEnd:
		return truncated(fmt.Errorf("no END %s line", found.Type))
	case keyfile.FormTruncated:
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
