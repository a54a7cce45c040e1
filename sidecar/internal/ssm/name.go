package ssm

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/snowkey/snowkey/sidecar/internal/lazyregexp"
)

const secretsManagerPrefix = "/aws/reference/secretsmanager/"

// A Name is how a user names a parameter: its name or ARN, with ":version" or ":label" if one is
// meant, or a secret of Secrets Manager, by reference or ARN.
type Name struct {
	written  string // as the user wrote it
	asked    string // as SSM takes it
	base     string // asked without the selector
	selector string // "3", "prod", or ""

	// The next fields are an ARN's; "" for a plain name.
	arn       string // without the selector
	partition string
	region    string
	account   string
}

var (
	namePattern   = lazyregexp.New(`^[a-zA-Z0-9_./-]+$`)
	arnPattern    = lazyregexp.New(`^arn:([a-z-]+):ssm:([a-z0-9-]+):(\d{12}):parameter(/.+)$`)
	selPattern    = lazyregexp.New(`^[a-zA-Z0-9_.-]+$`)
	secretPattern = lazyregexp.New(`^[a-zA-Z0-9/_+=.@-]+$`)
	// Secrets Manager takes an ARN without the six characters at its end, too. ECS writes the JSON's key, the stage and
	// the version id behind it, each of which may be empty.
	secretARNPattern = lazyregexp.New(`^arn:([a-z-]+):secretsmanager:([a-z0-9-]+):(\d{12}):secret:([^:]+?)(?:-[a-zA-Z0-9]{6})?(?::([^:]*)(?::([^:]*)(?::([^:]*))?)?)?$`)
)

// ParseName checks what a user wrote. Its errors do not repeat it: it may be a secret in the wrong place.
func ParseName(written string) (Name, error) {
	n, err := parse(written)
	if err != nil {
		return Name{}, err
	}
	n.written = written
	return n, nil
}

func parse(written string) (Name, error) {
	id, reference := strings.CutPrefix(written, secretsManagerPrefix)
	switch {
	case strings.HasPrefix(id, "arn:") && strings.Contains(id, ":secretsmanager:"):
		return secretByARN(id)
	case reference:
		id, selector, selected := strings.Cut(id, ":")
		return secretNamed(id, selector, selected)
	default:
		return parameterNamed(written)
	}
}

// secretNamed is a reference as SSM takes it.
func secretNamed(id, selector string, selected bool) (Name, error) {
	if !secretPattern().MatchString(id) {
		return Name{}, errors.New("name the secret after " + secretsManagerPrefix + " (letters, digits and /_+=.@- only)")
	}
	n := Name{base: secretsManagerPrefix + id, selector: selector}
	n.asked = n.base
	if selected {
		if !selPattern().MatchString(selector) {
			return Name{}, errors.New("what follows the : in a secret's name is its version id or a stage, such as AWSPREVIOUS")
		}
		n.asked += ":" + selector
	}
	return n, nil
}

// secretByARN takes the name out of a secret's ARN, since SSM knows secrets by name alone. AWS ends
// every ARN of a secret with six characters of its own: if what the user wrote ends so, these count as AWS's.
func secretByARN(written string) (Name, error) {
	m := secretARNPattern().FindStringSubmatch(written)
	if m == nil {
		return Name{}, errors.New("an ARN of a secret has the form arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX, " +
			"with ::STAGE: or :::VERSION_ID behind it for another version than the latest")
	}
	if strings.TrimRight(m[4], "?*") != m[4] { // as policies of IAM have it, for every secret whose ARN begins so
		return Name{}, errors.New("an ARN with ? or * at its end is one of a policy and names no single secret; write the secret's name after " + secretsManagerPrefix)
	}
	if !isRegion(m[2]) {
		return Name{}, regionInARN(m[2])
	}
	id, key, stage, version := m[4], m[5], m[6], m[7]
	switch {
	case key != "":
		return Name{}, errors.New("name the whole secret: what follows its name and one : is a key of its JSON, and the sidecar finds privateKey and passphrase " +
			"there itself; a stage is written ::STAGE:")
	case stage != "" && version != "":
		return Name{}, errors.New("a secret is named with its stage or with its version id, not with both")
	}
	n, err := secretNamed(id, stage+version, stage+version != "")
	n.partition, n.region, n.account = m[1], m[2], m[3]
	n.arn = strings.Join(strings.Split(written, ":")[:7], ":")
	return n, err
}

func parameterNamed(written string) (Name, error) {
	n := Name{asked: written, base: written}
	name := written
	if strings.HasPrefix(written, "arn:") {
		m := arnPattern().FindStringSubmatch(written)
		if m == nil {
			return Name{}, errors.New("an ARN of a parameter has the form arn:aws:ssm:REGION:ACCOUNT:parameter/NAME")
		}
		if !isRegion(m[2]) {
			return Name{}, regionInARN(m[2])
		}
		n.partition, n.region, n.account, name = m[1], m[2], m[3], m[4]
	}
	if i := strings.IndexByte(name, ':'); i >= 0 {
		n.selector = name[i+1:]
		n.base = strings.TrimSuffix(written, name[i:])
		name = name[:i]
		if !selPattern().MatchString(n.selector) {
			return Name{}, errors.New("what follows the : in a parameter's name is its version or a label")
		}
	}
	if !namePattern().MatchString(name) {
		return Name{}, errors.New("a parameter's name has letters, digits and _.-/ only")
	}
	if strings.Contains(name, "/") && !strings.HasPrefix(name, "/") {
		return Name{}, errors.New("a parameter's name with / in it begins with /")
	}
	if n.region != "" {
		n.arn = n.base
	}
	return n, nil
}

func regionInARN(written string) error {
	return errors.New("the Region in the ARN is not one as AWS writes it; " + rightRegion(written))
}

// mayLackSuffix is the secret's name if the ARN had no characters of AWS at its end after all, "" for any other name.
func (n Name) mayLackSuffix() string {
	if _, whole, ok := strings.Cut(n.arn, ":secret:"); ok && whole != n.secretID() {
		return whole
	}
	return ""
}

// String is the name as the user wrote it.
func (n Name) String() string { return n.written }

// what names the parameter for a message.
func (n Name) what() string {
	kind, name := "parameter ", n.base
	if n.SecretsManager() {
		kind, name = "secret ", n.secretID()
	}
	switch {
	case n.selector == "":
		return kind + name
	case n.SecretsManager():
		return fmt.Sprintf("version or stage %s of secret %s (%s)", n.selector, name, n.written)
	default:
		return fmt.Sprintf("version or label %s of %s (%s)", n.selector, name, n.written)
	}
}

// SecretsManager reports a secret, which SSM answers only decrypted.
func (n Name) SecretsManager() bool { return strings.HasPrefix(n.base, secretsManagerPrefix) }

// secretID is Secrets Manager's name of the secret.
func (n Name) secretID() string { return strings.TrimPrefix(n.base, secretsManagerPrefix) }

// IsARN reports whether the user wrote an ARN.
func (n Name) IsARN() bool { return strings.HasPrefix(n.written, "arn:") }

// Plain is the name that AWS writes a parameter under: no ARN, no selector.
func (n Name) Plain() (string, error) {
	switch {
	case n.SecretsManager():
		return "", errors.New("a secret of Secrets Manager is read only; name a parameter")
	case n.selector != "":
		return "", errors.New("a version or label is read only; name the parameter without the : and what follows it")
	}
	return n.plain(), nil
}

// plain is the name without ARN and selector.
func (n Name) plain() string {
	if !strings.HasPrefix(n.base, "arn:") {
		return n.base
	}
	if m := arnPattern().FindStringSubmatch(n.base); m != nil {
		return m[4]
	}
	return n.base
}

// parameter is the part that all names of one parameter share: in an ARN every name begins with /.
func (n Name) parameter() string { return strings.TrimPrefix(n.plain(), "/") }

// SameParameter reports whether both name one parameter, in whatever version. A plain name stands for the parameter of
// that name in any account.
func (n Name) SameParameter(other Name) bool {
	if n.arn != "" && other.arn != "" {
		return n.arnWithoutSuffix() == other.arnWithoutSuffix()
	}
	return n.parameter() == other.parameter()
}

func (n Name) arnWithoutSuffix() string {
	if n.SecretsManager() {
		return withoutSuffix(n.arn, n.account)
	}
	return n.arn
}

// ARN returns the parameter's ARN, with placeholders for the parts that only AWS knows.
func (n Name) ARN(region, account string) string {
	if strings.HasPrefix(n.base, "arn:") {
		return n.base
	}
	return fmt.Sprintf("arn:%s:ssm:%s:%s:parameter/%s", partition(region), region, cmp.Or(account, "ACCOUNT"), strings.TrimPrefix(n.base, "/"))
}

// secretARN is likewise the secret's own; its last six characters are AWS's.
func (n Name) secretARN(region, account string) string {
	return fmt.Sprintf("arn:%s:secretsmanager:%s:%s:secret:%s-SUFFIX", partition(region), region, cmp.Or(account, "ACCOUNT"), n.secretID())
}

// partition is the part of AWS that a region belongs to.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "us-iso-"):
		return "aws-iso"
	case strings.HasPrefix(region, "us-isob-"):
		return "aws-iso-b"
	case strings.HasPrefix(region, "eu-isoe-"):
		return "aws-iso-e"
	case strings.HasPrefix(region, "us-isof-"):
		return "aws-iso-f"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	default:
		return "aws"
	}
}

// find picks the answer to n, in this Region. SSM gives answers in an order of its own and leaves out some.
func (n Name) find(answers []types.Parameter, region string) (types.Parameter, bool) {
	for _, p := range answers {
		if n.sameName(p) && n.sameARN(p, region) && n.sameSelector(p) {
			return p, true
		}
	}
	return types.Parameter{}, false
}

func (n Name) sameName(p types.Parameter) bool {
	name := aws.ToString(p.Name)
	if n.SecretsManager() { // which some endpoints answer under the secret's own name
		return name == n.base || name == n.secretID()
	}
	return name == n.base || strings.TrimPrefix(name, "/") == n.parameter()
}

// sameARN is true for an endpoint that returns no ARN, unless the request has one.
func (n Name) sameARN(p types.Parameter, region string) bool {
	arn := aws.ToString(p.ARN)
	if arn == "" {
		return n.arn == "" || n.SecretsManager() || aws.ToString(p.Name) == n.base
	}
	said, ok := parseSource(arn)
	return ok && n.source(region).includes(said)
}

func (n Name) sameSelector(p types.Parameter) bool {
	if answered := strings.TrimPrefix(aws.ToString(p.Selector), ":"); answered != "" {
		return answered == n.selector
	}
	// Some endpoints do not say the selector. Then a version can be compared, and a label cannot.
	version, err := strconv.ParseInt(n.selector, 10, 64)
	return err != nil || version == p.Version
}

// Region is the region in an ARN, "" for any other name.
func Region(written string) string {
	n, err := ParseName(written)
	if err != nil {
		return ""
	}
	return n.region
}
