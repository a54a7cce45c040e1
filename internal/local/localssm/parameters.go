package localssm

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	standard           = "Standard"
	advanced           = "Advanced"
	intelligentTiering = "Intelligent-Tiering"

	standardLimit = 4096
	advancedLimit = 8192

	secureString = "SecureString"

	maxVersions = 100
	maxLabels   = 10
)

type parameter struct {
	name     string // as it was created
	versions []*version
	tags     map[string]string
}

// version is one value of a parameter. It does not change, except for its labels.
type version struct {
	number      int64
	kind        string
	value       string // ciphertext if kind is SecureString
	description string
	keyID       string  // as it was requested
	key         *kmsKey // nil unless kind is SecureString
	dataType    string
	tier        string
	modified    time.Time
	labels      []string
	pattern     string
	policies    []json.RawMessage
}

func (p *parameter) latest() *version { return p.versions[len(p.versions)-1] }

// Put stores a SecureString's next version and returns its number. It panics on what PutParameter refuses.
func (s *Server) Put(name, value string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, fault := s.put(request{Name: name, Value: value, Type: secureString, Tier: intelligentTiering, Overwrite: true})
	if fault != nil {
		panic("localssm: put " + name + ": " + fault.Error())
	}
	return v.number
}

// Label attaches a label to a version, taking it away from any other. It panics on what
// LabelParameterVersion refuses.
func (s *Server) Label(name, label string, version int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused, _, fault := s.label(name, version, []string{label})
	if fault != nil {
		panic("localssm: label " + name + ": " + fault.Error())
	}
	if len(refused) > 0 {
		panic("localssm: label " + name + ": invalid label " + label)
	}
}

// Delete removes a parameter, or the secret of a reference to Secrets Manager, if it is there.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.canonical(name)
	delete(s.parameters, key)
	delete(s.secrets, strings.TrimPrefix(key, secretPrefix))
}

func (s *Server) put(in request) (*version, *Fault) {
	name := strings.TrimSpace(in.Name)
	if fault := s.validToCreate(name); fault != nil {
		return nil, fault
	}
	p := s.parameters[canonicalName(name)]
	if fault := validPut(p, in); fault != nil {
		return nil, fault
	}
	if p == nil {
		p = &parameter{name: name, tags: map[string]string{}}
	}
	v, fault := s.nextVersion(p, in)
	if fault != nil {
		return nil, fault
	}
	if fault := p.makeRoom(); fault != nil {
		return nil, fault
	}
	p.versions = append(p.versions, v)
	p.tag(in.Tags)
	s.parameters[canonicalName(name)] = p
	return v, nil
}

// validPut checks a request against the parameter that has the name already, or nil.
func validPut(p *parameter, in request) *Fault {
	switch {
	case in.Value == "":
		return unsatisfied("", "value", "Member must have length greater than or equal to 1.")
	case in.Type != "" && !slices.Contains([]string{"String", "StringList", secureString}, in.Type):
		return unsatisfied(in.Type, "type", "Member must satisfy enum value set: [SecureString, StringList, String]")
	case in.Overwrite && len(in.Tags) > 0:
		return invalid("Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.")
	case p == nil && in.Type == "":
		return invalid("A parameter type is required when you create a parameter.")
	case p != nil && !in.Overwrite:
		return &Fault{Code: "ParameterAlreadyExists", Message: "The parameter already exists. To overwrite this value, set the overwrite option in the request to true."}
	}
	return nil
}

// nextVersion keeps what the request leaves out.
func (s *Server) nextVersion(p *parameter, in request) (*version, *Fault) {
	last := &version{keyID: defaultKeyID, dataType: "text", tier: standard}
	if len(p.versions) > 0 {
		last = p.latest()
	}
	v := &version{
		number:      last.number + 1,
		kind:        or(in.Type, last.kind),
		value:       in.Value,
		description: or(in.Description, last.description),
		keyID:       or(in.KeyId, last.keyID),
		dataType:    or(in.DataType, last.dataType),
		modified:    s.now(),
		pattern:     in.AllowedPattern,
	}
	var fault *Fault
	if v.policies, fault = policies(in.Policies, last.policies); fault != nil {
		return nil, fault
	}
	if allowed, err := regexp.Compile(v.pattern); err != nil || !allowed.MatchString(in.Value) {
		return nil, &Fault{Code: "ParameterPatternMismatchException", Message: "Parameter value, cannot be validated against allowedPattern: " + v.pattern}
	}
	if v.tier, fault = tier(in.Tier, last.tier, len(in.Value), len(v.policies) > 0); fault != nil {
		return nil, fault
	}
	if v.kind != secureString {
		return v, nil
	}
	if v.key, fault = s.usableKey(v.keyID); fault != nil {
		return nil, fault
	}
	v.value = v.key.encrypt(in.Value, s.parameterARN(p.name))
	return v, nil
}

// policies stay until others, or an empty list of them, are sent.
func policies(given string, last []json.RawMessage) (all []json.RawMessage, fault *Fault) {
	if given == "" {
		return last, nil
	}
	if err := json.Unmarshal([]byte(given), &all); err != nil {
		return nil, &Fault{Code: "InvalidPolicyAttributeException", Message: "The policies are no JSON array."}
	}
	return all, nil
}

func or(given, last string) string {
	if given != "" {
		return given
	}
	return last
}

// tier chooses the tier of a version, and holds its size and policies against it.
func tier(requested, last string, size int, hasPolicies bool) (string, *Fault) {
	chosen := or(requested, last)
	if chosen == intelligentTiering {
		chosen = last
		if size > standardLimit || hasPolicies {
			chosen = advanced
		}
	}
	switch {
	case chosen != standard && chosen != advanced:
		return "", unsatisfied(requested, "tier", "Member must satisfy enum value set: [Standard, Advanced, Intelligent-Tiering]")
	case chosen == standard && last == advanced:
		return "", invalid("This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced parameter and recreate it as a standard parameter. Be aware that standard parameters have a value limit of 4096 characters.")
	case chosen == standard && size > standardLimit:
		return "", invalid("Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier. For more information, see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html")
	case chosen == standard && hasPolicies:
		return "", invalid("Standard tier parameters support no parameter policies. To use them, upgrade the parameter to use the advanced-parameter tier.")
	case size > advancedLimit:
		return "", invalid("The specified parameter value is too large. Advanced-tier parameters support a maximum parameter value of 8192 characters.")
	}
	return chosen, nil
}

// makeRoom drops the oldest version when there are as many as AWS keeps, unless a label holds it.
func (p *parameter) makeRoom() *Fault {
	if len(p.versions) < maxVersions {
		return nil
	}
	if oldest := p.versions[0]; len(oldest.labels) > 0 {
		return &Fault{Code: "ParameterMaxVersionLimitExceeded", Message: fmt.Sprintf(
			"You attempted to create a new version of %s by calling the PutParameter API with the overwrite flag. Version %d, the oldest version, can't be deleted because it has a label associated with it. Move the label to another version of the parameter, and try again.",
			p.name, oldest.number)}
	}
	p.versions = slices.Delete(p.versions, 0, 1)
	return nil
}

func (p *parameter) tag(tags []tag) {
	for _, t := range tags {
		p.tags[t.Key] = t.Value
	}
}

var validLabel = regexp.MustCompile(`^[a-zA-Z_.-][a-zA-Z0-9_.-]*$`)

// label returns the labels that break AWS's rules, and the version that has the others now.
func (s *Server) label(name string, number int64, labels []string) (refused []string, labelled *version, fault *Fault) {
	p, fault := s.named(name)
	if fault != nil {
		return nil, nil, fault
	}
	target := p.latest()
	if number != 0 {
		if target = p.byNumber(number); target == nil {
			return nil, nil, noVersion(strconv.FormatInt(number, 10), p.name)
		}
	}
	wanted := slices.Clone(target.labels)
	for _, l := range labels {
		switch {
		case !validLabel.MatchString(l), hasPrefix(l, "aws"), hasPrefix(l, "ssm"):
			refused = append(refused, l)
		case !slices.Contains(wanted, l):
			wanted = append(wanted, l)
		}
	}
	if len(wanted) > maxLabels {
		return nil, nil, &Fault{Code: "ParameterVersionLabelLimitExceeded", Message: "A parameter version can have maximum 10 labels. Move one or more labels to another version and try again."}
	}
	for _, v := range p.versions {
		v.labels = slices.DeleteFunc(v.labels, func(l string) bool { return slices.Contains(wanted, l) })
	}
	target.labels = wanted
	return refused, target, nil
}

func (p *parameter) byNumber(number int64) *version {
	for _, v := range p.versions {
		if v.number == number {
			return v
		}
	}
	return nil
}

// selected returns the version that a selector means.
func (p *parameter) selected(selector string) (*version, *Fault) {
	if selector == "" {
		return p.latest(), nil
	}
	if number, err := strconv.ParseInt(selector, 10, 64); err == nil {
		if v := p.byNumber(number); v != nil {
			return v, nil
		}
		return nil, noVersion(selector, p.name)
	}
	for _, v := range p.versions {
		if slices.Contains(v.labels, selector) {
			return v, nil
		}
	}
	return nil, &Fault{Code: "ParameterVersionNotFound", Message: fmt.Sprintf(
		"Systems Manager could not find label %s for parameter %s. Verify the label and try again.", selector, p.name)}
}

// named finds a parameter by its name alone: what changes a parameter takes neither selector nor ARN.
func (s *Server) named(name string) (*parameter, *Fault) {
	name = strings.TrimSpace(name)
	if !simpleName.MatchString(name) && !pathName.MatchString(name) {
		return nil, badName()
	}
	p := s.parameters[canonicalName(name)]
	if p == nil {
		return nil, notFound()
	}
	return p, nil
}

// notFound has no message: neither has AWS's.
func notFound() *Fault { return &Fault{Code: "ParameterNotFound"} }

func noVersion(number, name string) *Fault {
	return &Fault{Code: "ParameterVersionNotFound", Message: fmt.Sprintf(
		"Systems Manager could not find version %s of %s. Verify the version and try again.", number, name)}
}

// reveal returns a version's value as the caller may see it.
func (s *Server) reveal(p *parameter, v *version, withDecryption bool) (string, *Fault) {
	if v.kind != secureString || !withDecryption {
		return v.value, nil
	}
	if fault := s.decryptable(canonicalName(p.name), v.key); fault != nil {
		return "", fault
	}
	s.decrypts++
	return v.key.decrypt(v.value, s.parameterARN(p.name)), nil
}
