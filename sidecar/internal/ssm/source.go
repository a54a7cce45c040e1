package ssm

import (
	"fmt"
	"strings"

	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

// A Source says where a key comes from, as AWS names it and never as a user wrote it: partition, Region, account and
// full name, with the version or label of the request. For a key in SECRET_KEY it is the key's fingerprint.
//
// The account is "" until AWS, or an ARN, has said it.
type Source struct {
	partition string
	service   string // of the constants below
	region    string
	account   string
	name      string // without a leading slash; a secret's with the six characters that AWS adds, once they are known
	selector  string // version, label or stage; "" for the latest

	fingerprint string
}

// FromSecretKey is the source of a key in the variable SECRET_KEY.
func FromSecretKey(fingerprint string) Source { return Source{fingerprint: fingerprint} }

const fromSecretKey = "SECRET_KEY "

// String is the source as status.json and the log have it: an ARN, with ":" and the version or label behind it if the
// user named one. A part that is not known yet is empty.
func (s Source) String() string {
	if s.fingerprint != "" {
		return fromSecretKey + s.fingerprint
	}
	if s == (Source{}) {
		return ""
	}
	resource := "parameter/" + s.name
	if s.service == secretsManager {
		resource = "secret:" + s.name
	}
	arn := fmt.Sprintf("arn:%s:%s:%s:%s:%s", s.partition, s.service, s.region, s.account, resource)
	if s.selector != "" {
		arn += ":" + s.selector
	}
	return arn
}

// Known reports whether every part is known. An ARN of a secret may lack the six characters that AWS adds.
func (s Source) Known() bool {
	if s.service == secretsManager && !secretSuffixPattern().MatchString(s.name) {
		return false
	}
	return s.fingerprint != "" || s.account != ""
}

// Matches reports whether written, a known source from its String, can be this one. While the account is not known
// every account matches.
func (s Source) Matches(written string) bool {
	if s.Known() {
		return written == s.String()
	}
	other, ok := parseSource(written)
	return ok && s != (Source{}) && s.selector == other.selector && s.includes(other)
}

// includes reports whether other can be s, whatever its selector. A part that s does not know may be anything. SSM
// finds a secret by its name alone, so the user may have written other six characters than AWS's.
func (s Source) includes(other Source) bool {
	if s.service == secretsManager {
		s.name, other.name = withoutSuffix(s.name, s.account), withoutSuffix(other.name, other.account)
	}
	if s.account == "" {
		other.account = ""
	}
	s.selector, other.selector = "", ""
	return s == other
}

// withoutSuffix is a secret's name without what AWS adds. It is there in an ARN, which has an account.
func withoutSuffix(name, account string) string {
	if account == "" {
		return name
	}
	return secretSuffixPattern().ReplaceAllString(name, "")
}

// The services of a source, as they are in an ARN.
const (
	parameterStore = "ssm"
	secretsManager = "secretsmanager"
)

// secretSuffixPattern is the suffix that AWS adds to the name of a secret.
var secretSuffixPattern = lazyregexp.New(`-[a-zA-Z0-9]{6}$`)

func parseSource(written string) (Source, bool) {
	if fingerprint, ok := strings.CutPrefix(written, fromSecretKey); ok {
		return FromSecretKey(fingerprint), true
	}
	parts := strings.SplitN(written, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return Source{}, false
	}
	s := Source{partition: parts[1], service: parts[2], region: parts[3], account: parts[4]}
	name, ok := strings.CutPrefix(parts[5], map[string]string{parameterStore: "parameter/", secretsManager: "secret:"}[s.service])
	s.name, s.selector, _ = strings.Cut(name, ":")
	return s, ok && s.name != "" && (s.service == parameterStore || s.service == secretsManager)
}

// source is the source as far as the name alone says it, in this Region.
func (n Name) source(region string) Source {
	if n.arn != "" {
		s, _ := parseSource(n.arn)
		s.selector = n.selector
		return s
	}
	s := Source{partition: partition(region), service: parameterStore, region: region, name: n.parameter(), selector: n.selector}
	if n.SecretsManager() {
		s.service, s.name = secretsManager, n.secretID()
	}
	return s
}

// answered is the source with what AWS says about it. An ARN of something else changes nothing.
func (s Source) answered(arn string) Source {
	// A copy: the strings of an answer share memory, and the source would keep the passphrase beside its ARN.
	known, ok := parseSource(strings.Clone(arn))
	if !ok || !accountPattern().MatchString(known.account) || !s.includes(known) {
		return s
	}
	known.selector = s.selector
	return known
}
