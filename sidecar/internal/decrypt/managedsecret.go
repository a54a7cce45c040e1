package decrypt

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/snowkey/snowkey/internal/identity"
	"github.com/snowkey/snowkey/internal/keytext"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// A managedSecret is the value of a secret of Secrets Manager's type SnowflakeKeyPairAuthentication,
// which AWS itself rotates. Its other fields, such as publicKey, are of no use here.
type managedSecret struct {
	PrivateKey *string `json:"privateKey"`
	KeyType    string  `json:"kty"`  // set in a JSON Web Key, which is no managed secret
	Keys       any     `json:"keys"` // set in a set of those
	Passphrase *string `json:"passphrase"`
	Account    string  `json:"account"`
	User       string  `json:"user"`
}

// A Login is the account and the user whose key it is. Either is "" if the stored text does not name it, or if it is
// invalid. Then the other fields say why, without the text itself.
type Login struct {
	Account, User               string
	InvalidAccount, InvalidUser string
}

const invalidUser = "write its LOGIN_NAME, as DESC USER shows it, of at most 255 letters, digits, spaces and _ . @ $ + -"

func (s managedSecret) login() Login {
	account, err := identity.ParseAccount(s.Account)
	l := Login{Account: string(account), User: name(s.User)}
	if err != nil {
		l.InvalidAccount = err.Error()
	}
	if l.User == "" && strings.TrimSpace(s.User) != "" {
		l.InvalidUser = invalidUser
	}
	return l
}

// longestName is Snowflake's limit.
const longestName = 255

// name returns "" for a text that cannot be a name: messages name account and user, and must not repeat a key that was
// pasted there. It uses no regular expression: with this limit, and the letters of all languages, one compiles to
// megabytes.
func name(text string) string {
	text = strings.TrimSpace(text)
	if utf8.RuneCountInString(text) > longestName || strings.ContainsFunc(text, foreignToUser) {
		return ""
	}
	return text
}

func foreignToUser(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_.@$+ -", r)
}

// IsManagedSecret reports whether Parse reads text as a managed secret: whether it is JSON, as no form of a key is.
func IsManagedSecret(text secret.Value) bool {
	json := jsonIn(text.Bytes())
	defer clear(json)
	return json != nil
}

// jsonIn returns a copy of the JSON object in a text, nil without one. The JSON may be UTF-16, a string in JSON, or
// base64. Nothing but its first brace is checked; two braces are a template.
func jsonIn(data []byte) []byte {
	if bytes.HasPrefix(data, []byte("-----")) || len(data) > keyfile.MaxSize && !bytes.HasPrefix(data, []byte("{")) {
		return nil
	}
	text := keytext.DecodeText(data)
	for _, read := range []func([]byte) []byte{bytes.Clone, unescaped, decodedLines} {
		inside := read(bytes.TrimSpace(text))
		object := keytext.DecodeText(inside)
		clear(inside)
		if json := bytes.TrimSpace(object); bytes.HasPrefix(json, []byte("{")) && !bytes.HasPrefix(json, []byte("{{")) {
			clear(text)
			return json
		}
		clear(object)
	}
	clear(text)
	return nil
}

func decodedLines(p []byte) []byte {
	line := bytes.Join(bytes.Fields(p), nil)
	defer clear(line)
	return decoded(line)
}

// lineBreaks become spaces: JSON allows none in a string, but a PEM that was pasted there has some.
var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ", "\t", " ")

// parseManagedSecret repeats nothing of the text in its error, not even what encoding/json quotes.
func parseManagedSecret(text []byte) (managedSecret, error) {
	const do = "store the text of the key file alone, or the JSON of a secret of type SnowflakeKeyPairAuthentication, " +
		"with privateKey and, if the key is encrypted, passphrase"
	var stored managedSecret
	if len(text) > keyfile.MaxSize {
		return stored, tooLong(len(text))
	}
	object := jsonIn(text)
	defer clear(object)
	if err := json.Unmarshal([]byte(lineBreaks.Replace(string(object))), &stored); err != nil {
		return stored, unreadable(errors.New("the value begins like JSON and is not JSON, or one of its fields is not a string"), do)
	}
	if stored.PrivateKey == nil && (stored.KeyType != "" || stored.Keys != nil) {
		return stored, formError(keytext.Content{Form: keytext.FormJWK}, len(text))
	}
	if stored.PrivateKey == nil {
		return stored, unreadable(errors.New("the value is JSON without privateKey"), do)
	}
	return stored, nil
}

// parts returns the key's text and the passphrase to try. A passphrase that was set beside the secret overrides the
// secret's own.
func (s managedSecret) parts(given secret.Value) (text, passphrase secret.Value) {
	if !given.IsSet() && s.Passphrase != nil {
		given = secret.New([]byte(*s.Passphrase))
	}
	return secret.New([]byte(*s.PrivateKey)), given
}
