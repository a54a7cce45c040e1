package ssm

import (
	"cmp"
	"fmt"
	"strings"
)

// A Source says where a key comes from, as AWS names it and never as a user wrote it: partition, Region, account and full name, with the
// version or label that was asked for. For a key in SECRET_KEY it is the key's fingerprint.
//
// The account is "" until AWS, or an ARN, has said it.
type Source struct {
	partition string
	service   string // ssm or secretsmanager
	region    string
	account   string
	name      string // without a leading slash; a secret's with the six characters that AWS adds, once they are known
	selector  string // version, label or stage; "" for the newest

	fingerprint string
}

// FromSecretKey is the source of a key in the variable SECRET_KEY.
func FromSecretKey(fingerprint string) Source { return Source{fingerprint: fingerprint} }

const fromSecretKey = "SECRET_KEY "

// String is the source as status.json and the log have it: an ARN, with ":" and the version or label behind it if one was asked for.
// A part that is not known yet is empty.
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

// Known reports whether every part is known.
func (s Source) Known() bool {
	return s.fingerprint != "" || s.account != ""
}

// Matches reports whether written, a known source from its String, can be this one. While the account is not known every account matches.
func (s Source) Matches(written string) bool {
	if s.Known() {
		return written == s.String()
	}
	other, ok := parseSource(written)
	if !ok || s == (Source{}) {
		return false
	}
	if s.service == secretsManager && len(other.name) == len(s.name)+len(secretSuffix) {
		other.name = other.name[:len(s.name)]
	}
	other.account = ""
	return other == s
}

const (
	secretsManager = "secretsmanager"
	secretSuffix   = "-123456" // six characters of AWS's own
)

func parseSource(written string) (Source, bool) {
	if fingerprint, ok := strings.CutPrefix(written, fromSecretKey); ok {
		return FromSecretKey(fingerprint), true
	}
	parts := strings.SplitN(written, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return Source{}, false
	}
	s := Source{partition: parts[1], service: parts[2], region: parts[3], account: parts[4]}
	name, ok := strings.CutPrefix(parts[5], map[string]string{"ssm": "parameter/", secretsManager: "secret:"}[s.service])
	s.name, s.selector, _ = strings.Cut(name, ":")
	return s, ok && s.name != "" && (s.service == "ssm" || s.service == secretsManager)
}

// source is what the name alone says, asked in this Region.
func (n Name) source(region string) Source {
	if n.arn != "" {
		s, _ := parseSource(n.arn)
		s.selector = n.selector
		return s
	}
	s := Source{partition: partition(region), service: "ssm", region: cmp.Or(n.region, region), name: n.parameter(), selector: n.selector}
	if n.SecretsManager() {
		s.service, s.name = secretsManager, n.secretID()
	}
	return s
}

// answered is the source with what AWS says about it.
func (s Source) answered(arn string) Source {
	known, ok := parseSource(arn)
	if !ok {
		return s
	}
	known.selector = s.selector
	return known
}
