package source

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

const secretsManagerPrefix = "/aws/reference/secretsmanager/"

// A Name is how a user names a parameter: its name or ARN, with ":version" or ":label" if one is
// meant, or a reference to Secrets Manager.
type Name struct {
	written  string // as the user wrote it and as SSM is asked
	base     string // without the selector
	selector string // "3", "prod", or ""
}

var (
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9_./-]+$`)
	arnPattern  = regexp.MustCompile(`^arn:[a-z-]+:ssm:([a-z0-9-]+):(\d{12}):parameter(/.+)$`)
	selPattern  = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
)

// ParseName checks what a user wrote. Its errors do not repeat it: it may be a secret in the wrong place.
func ParseName(written string) (Name, error) {
	n := Name{written: written, base: written}
	if id, ok := strings.CutPrefix(written, secretsManagerPrefix); ok {
		id, selector, _ := strings.Cut(id, ":")
		if id == "" {
			return Name{}, errors.New("name the secret after " + secretsManagerPrefix)
		}
		n.base, n.selector = secretsManagerPrefix+id, selector
		return n, nil
	}
	name := written
	if strings.HasPrefix(written, "arn:") {
		m := arnPattern.FindStringSubmatch(written)
		if m == nil {
			return Name{}, errors.New("an ARN of a parameter looks like arn:aws:ssm:REGION:ACCOUNT:parameter/NAME")
		}
		name = m[3]
	}
	if i := strings.IndexByte(name, ':'); i >= 0 {
		n.selector = name[i+1:]
		n.base = strings.TrimSuffix(written, name[i:])
		name = name[:i]
		if !selPattern.MatchString(n.selector) {
			return Name{}, errors.New("what follows the : in a parameter's name is its version or a label")
		}
	}
	if !namePattern.MatchString(name) {
		return Name{}, errors.New("a parameter's name has letters, digits and _.-/ only")
	}
	if strings.Contains(name, "/") && !strings.HasPrefix(name, "/") {
		return Name{}, errors.New("a parameter's name with / in it begins with /")
	}
	return n, nil
}

// String is the name as the user wrote it.
func (n Name) String() string { return n.written }

// what is meant, in words.
func (n Name) what() string {
	if n.selector == "" {
		return "parameter " + n.base
	}
	return fmt.Sprintf("version or label %s of %s (%s)", n.selector, n.base, n.written)
}

// secretsManager reports a reference, which SSM answers only decrypted.
func (n Name) secretsManager() bool { return strings.HasPrefix(n.base, secretsManagerPrefix) }

// region of an ARN; "" for a plain name.
func (n Name) region() string {
	if m := arnPattern.FindStringSubmatch(n.base); m != nil {
		return m[1]
	}
	return ""
}

// IsARN reports whether the user wrote an ARN.
func (n Name) IsARN() bool { return strings.HasPrefix(n.written, "arn:") }

// Plain is the name that AWS writes a parameter under: no ARN, no selector.
func (n Name) Plain() (string, error) {
	switch {
	case n.secretsManager():
		return "", errors.New("a reference to Secrets Manager is read only; name a parameter")
	case n.selector != "":
		return "", errors.New("a version or label is read only; name the parameter without the : and what follows it")
	}
	if m := arnPattern.FindStringSubmatch(n.base); m != nil {
		return m[3], nil
	}
	return n.base, nil
}

// ARN of the parameter. What only AWS knows is left for the reader to fill in.
func (n Name) ARN(region, account string) string {
	if strings.HasPrefix(n.base, "arn:") {
		return n.base
	}
	if account == "" {
		account = "ACCOUNT"
	}
	return fmt.Sprintf("arn:%s:ssm:%s:%s:parameter/%s", partition(region), region, account, strings.TrimPrefix(n.base, "/"))
}

// partition is the part of AWS that a region belongs to.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

// find picks the answer to n. SSM gives answers in an order of its own and leaves out some.
func (n Name) find(answers []types.Parameter) (types.Parameter, bool) {
	for _, p := range answers {
		if n.sameParameter(p) && n.sameSelector(p) {
			return p, true
		}
	}
	return types.Parameter{}, false
}

func (n Name) sameParameter(p types.Parameter) bool {
	name := aws.ToString(p.Name)
	if name == n.base || n.base == aws.ToString(p.ARN) {
		return true
	}
	// Some endpoints answer a reference under the secret's own name.
	return n.secretsManager() && name == strings.TrimPrefix(n.base, secretsManagerPrefix)
}

func (n Name) sameSelector(p types.Parameter) bool {
	if answered := strings.TrimPrefix(aws.ToString(p.Selector), ":"); answered != "" {
		return answered == n.selector
	}
	// An endpoint that does not say the selector has to be believed about a label; a version shows.
	version, err := strconv.ParseInt(n.selector, 10, 64)
	return err != nil || version == p.Version
}
