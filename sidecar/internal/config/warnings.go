package config

import (
	"fmt"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// A Warning is about settings that work and are probably not what was meant.
type Warning struct{ Says, Advice string }

func (w Warning) String() string { return w.Says + "; " + w.Advice }

// Warnings are about keys that share a parameter, in whatever way their parameters are named, and about a private key that
// is in two variables or is not used.
func (s *KeySettings) Warnings() []Warning {
	var all []Warning
	switch found := s.only.inEnvironment; {
	case found.repeated:
		all = append(all, Warning{Says: "SECRET_KEY holds the key of SNOWKEY_SECRET_KEY, and CMD does not get it", Advice: "unset it"})
	case found.unused:
		all = append(all, Warning{
			Says:   "SECRET_KEY holds a private key, which is not used: another setting says which key is meant",
			Advice: "unset it, unless it is the application's own",
		})
	}
	reported := map[string]bool{} // by the key's name
	for i, k := range s.Keys {
		same := []Key{k}
		for _, other := range s.Keys[i+1:] {
			if !reported[k.Name] && sameParameter(k.KeyParameter, other.KeyParameter) {
				same = append(same, other)
				reported[other.Name] = true
			}
		}
		if len(same) > 1 {
			all = append(all, sharedKey(same))
		}
		for _, other := range s.Keys {
			if sameParameter(k.PassphraseParameter, other.KeyParameter) {
				all = append(all, keyAsPassphrase(k, other))
			}
		}
	}
	return all
}

// sharedKey is about keys of one parameter. For two users that is a fault: the parameter holds one key, and a rotation for
// one user replaces the key of the other.
func sharedKey(keys []Key) Warning {
	var names, users, parameters []string
	for _, k := range keys {
		names = append(names, k.Name)
		users = appendNew(users, string(k.Snowflake.User))
		parameters = appendNew(parameters, k.KeyParameter)
	}
	w := Warning{
		Says:   fmt.Sprintf("the keys %s are of one parameter, %s", list(names), list(parameters)) + ifOneAccount(parameters),
		Advice: "keep one of them: every reader can read the same directory; or correct key-parameter=",
	}
	if len(users) > 1 {
		w.Says += fmt.Sprintf(", for the users %s", list(users))
		w.Advice = "store a key for each user in a parameter of its own: rotate for one user replaces the key of the other"
	}
	return w
}

func keyAsPassphrase(k, of Key) Warning {
	return Warning{
		Says: fmt.Sprintf("the passphrase of key %s is read from the parameter of key %s, %s", k.Name, of.Name, k.PassphraseParameter) +
			ifOneAccount([]string{k.PassphraseParameter, of.KeyParameter}),
		Advice: "correct passphrase-parameter= of key " + k.Name + ": a key is no passphrase",
	}
}

// ifOneAccount says what is not known about a plain name beside an ARN: the account.
func ifOneAccount(parameters []string) string {
	arns := 0
	for _, p := range parameters {
		if n, err := ssm.ParseName(p); err == nil && n.IsARN() {
			arns++
		}
	}
	if arns == 0 || arns == len(parameters) {
		return ""
	}
	return " (if the ARN is of this account)"
}

// appendNew appends a text that is neither empty nor there yet, whatever the case.
func appendNew(all []string, text string) []string {
	for _, other := range all {
		if strings.EqualFold(other, text) {
			return all
		}
	}
	if text == "" {
		return all
	}
	return append(all, text)
}

func list(texts []string) string {
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " and " + texts[last]
}
