package localssm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxNames       = 10
	maxLabelLength = 100
	maxPage        = 50
)

// epoch is a time as AWS JSON has it: seconds, with milliseconds behind the point.
type epoch time.Time

func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(e).UnixMilli())/1000, 'f', 3, 64), nil
}

type empty struct{}

type parameterOutput struct {
	ARN              string
	DataType         string
	LastModifiedDate epoch
	Name             string
	Selector         string `json:",omitempty"`
	SourceResult     string `json:",omitempty"`
	Type             string
	Value            string
	Version          int64
}

// metadataOutput has the fields that DescribeParameters and GetParameterHistory have in common.
type metadataOutput struct {
	AllowedPattern   string `json:",omitempty"`
	DataType         string
	Description      string `json:",omitempty"`
	KeyId            string `json:",omitempty"`
	LastModifiedDate epoch
	LastModifiedUser string
	Name             string
	Policies         []policyOutput
	Tier             string
	Type             string
	Version          int64
}

type policyOutput struct{ PolicyStatus, PolicyText, PolicyType string }

func policyOutputs(policies []json.RawMessage) []policyOutput {
	all := []policyOutput{}
	for _, text := range policies {
		var policy struct{ Type string }
		_ = json.Unmarshal(text, &policy)
		all = append(all, policyOutput{"Pending", string(text), policy.Type})
	}
	return all
}

func (s *Server) metadata(p *parameter, v *version) metadataOutput {
	out := metadataOutput{
		AllowedPattern:   v.pattern,
		DataType:         v.dataType,
		Description:      v.description,
		LastModifiedDate: epoch(v.modified),
		LastModifiedUser: s.calling.arn(s.account),
		Name:             p.name,
		Policies:         policyOutputs(v.policies),
		Tier:             v.tier,
		Type:             v.kind,
		Version:          v.number,
	}
	if v.kind == secureString {
		out.KeyId = v.keyID
	}
	return out
}

// read answers for one requested name.
func (s *Server) read(requested string, withDecryption bool) (*parameterOutput, *Fault) {
	r := s.reference(requested)
	if fault := r.validToRead(); fault != nil {
		return nil, fault
	}
	if strings.HasPrefix(r.name, secretPrefix) {
		return s.readSecret(r, withDecryption)
	}
	p := s.parameters[canonicalName(r.name)]
	if p == nil {
		return nil, notFound()
	}
	v, fault := p.selected(r.selector)
	if fault != nil {
		return nil, fault
	}
	value, fault := s.reveal(p, v, withDecryption)
	if fault != nil {
		return nil, fault
	}
	return &parameterOutput{
		ARN:              s.parameterARN(p.name),
		DataType:         v.dataType,
		LastModifiedDate: epoch(v.modified),
		Name:             r.name,
		Selector:         selectorOutput(r.selector),
		Type:             v.kind,
		Value:            value,
		Version:          v.number,
	}, nil
}

func selectorOutput(selector string) string {
	if selector == "" {
		return ""
	}
	return ":" + selector
}

func (s *Server) getParameter(in request) (any, *Fault) {
	out, fault := s.read(in.Name, in.WithDecryption)
	if fault != nil {
		return nil, fault
	}
	return struct{ Parameter *parameterOutput }{out}, nil
}

func (s *Server) getParameters(in request) (any, *Fault) {
	if fault := validNames(in.Names); fault != nil {
		return nil, fault
	}
	out := struct {
		InvalidParameters []string
		Parameters        []*parameterOutput
	}{[]string{}, []*parameterOutput{}}
	for _, name := range unique(in.Names) {
		p, fault := s.read(name, in.WithDecryption)
		switch {
		case fault == nil:
			out.Parameters = append(out.Parameters, p)
		case fault.Code == "ParameterNotFound", fault.Code == "ParameterVersionNotFound":
			out.InvalidParameters = append(out.InvalidParameters, name)
		default:
			return nil, fault
		}
	}
	// AWS promises no order, so no caller may come to rely on one.
	rand.Shuffle(len(out.Parameters), func(i, j int) {
		out.Parameters[i], out.Parameters[j] = out.Parameters[j], out.Parameters[i]
	})
	return out, nil
}

func validNames(names []string) *Fault {
	list := "[" + strings.Join(names, ", ") + "]"
	switch {
	case len(names) == 0:
		return unsatisfied(list, "names", "Member must have length greater than or equal to 1.")
	case len(names) > maxNames:
		return unsatisfied(list, "names", "Member must have length less than or equal to 10.")
	}
	return nil
}

func unique(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

func (s *Server) putParameter(in request) (any, *Fault) {
	v, fault := s.put(in)
	if fault != nil {
		return nil, fault
	}
	return struct {
		Tier    string
		Version int64
	}{v.tier, v.number}, nil
}

func (s *Server) labelParameterVersion(in request) (any, *Fault) {
	for _, label := range in.Labels {
		if len(label) > maxLabelLength {
			return nil, unsatisfied("["+label+"]", "labels", "Member must satisfy constraint: [Member must have length less than or equal to 100, Member must have length greater than or equal to 1]")
		}
	}
	if len(in.Labels) == 0 {
		return nil, unsatisfied("[]", "labels", "Member must have length greater than or equal to 1")
	}
	if len(in.Labels) > maxLabels {
		return nil, unsatisfied(in.Labels, "labels", "Member must have length less than or equal to 10")
	}
	refused, v, fault := s.label(in.Name, in.ParameterVersion, in.Labels)
	if fault != nil {
		return nil, fault
	}
	return struct {
		InvalidLabels    []string
		ParameterVersion int64
	}{append([]string{}, refused...), v.number}, nil
}

func (s *Server) getParameterHistory(in request) (any, *Fault) {
	p, fault := s.named(s.bareName(in.Name))
	if fault != nil {
		return nil, fault
	}
	versions, next, fault := page(p.versions, in, maxPage)
	if fault != nil {
		return nil, fault
	}
	type history struct {
		metadataOutput
		Labels []string
		Value  string
	}
	out := struct {
		Parameters []history
		NextToken  string `json:",omitempty"`
	}{[]history{}, next}
	for _, v := range versions {
		value, fault := s.reveal(p, v, in.WithDecryption)
		if fault != nil {
			return nil, fault
		}
		out.Parameters = append(out.Parameters, history{s.metadata(p, v), append([]string{}, v.labels...), value})
	}
	return out, nil
}

func (s *Server) describeParameters(in request) (any, *Fault) {
	found := slices.SortedFunc(maps.Values(s.parameters), func(a, b *parameter) int { return cmp.Compare(a.name, b.name) })
	for _, f := range in.ParameterFilters {
		matches, fault := f.matcher()
		if fault != nil {
			return nil, fault
		}
		found = slices.DeleteFunc(found, func(p *parameter) bool {
			return !slices.ContainsFunc(f.Values, func(value string) bool { return matches(p.name, value) })
		})
	}
	found, next, fault := page(found, in, maxNames)
	if fault != nil {
		return nil, fault
	}
	type description struct {
		ARN string
		metadataOutput
	}
	out := struct {
		Parameters []description
		NextToken  string `json:",omitempty"`
	}{[]description{}, next}
	for _, p := range found {
		out.Parameters = append(out.Parameters, description{s.parameterARN(p.name), s.metadata(p, p.latest())})
	}
	return out, nil
}

// matcher knows the one filter key that is of use here.
func (f filter) matcher() (func(name, value string) bool, *Fault) {
	if f.Key != "Name" {
		return nil, &Fault{Code: "InvalidFilterKey", Message: "The local endpoint filters by Name only."}
	}
	switch f.Option {
	case "", "Equals":
		return func(name, value string) bool { return name == value }, nil
	case "BeginsWith":
		return strings.HasPrefix, nil
	case "Contains":
		return strings.Contains, nil
	}
	return nil, &Fault{Code: "InvalidFilterOption", Message: "The following filter option is not valid: " + f.Option + ". Valid options include: [BeginsWith, Contains, Equals]."}
}

// page cuts one page out of all; its token is an offset.
func page[T any](all []T, in request, size int) (items []T, next string, fault *Fault) {
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	if size < 1 {
		return nil, "", unsatisfied(size, "maxResults", "Member must have value greater than or equal to 1")
	}
	if size > maxPage {
		return nil, "", unsatisfied(size, "maxResults", fmt.Sprintf("Member must have value less than or equal to %d", maxPage))
	}
	start := 0
	if in.NextToken != "" {
		var err error
		if start, err = strconv.Atoi(in.NextToken); err != nil || start < 0 || start > len(all) {
			return nil, "", &Fault{Code: "InvalidNextToken", Message: "The specified token isn't valid."}
		}
	}
	end := min(start+size, len(all))
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[start:end], next, nil
}

func (s *Server) deleteParameter(in request) (any, *Fault) {
	p, fault := s.named(in.Name)
	if fault != nil {
		return nil, fault
	}
	delete(s.parameters, canonicalName(p.name))
	return empty{}, nil
}

func (s *Server) deleteParameters(in request) (any, *Fault) {
	if fault := validNames(in.Names); fault != nil {
		return nil, fault
	}
	out := struct{ DeletedParameters, InvalidParameters []string }{[]string{}, []string{}}
	for _, name := range unique(in.Names) {
		if _, fault := s.deleteParameter(request{Name: name}); fault != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
			continue
		}
		out.DeletedParameters = append(out.DeletedParameters, name)
	}
	return out, nil
}

func (s *Server) addTagsToResource(in request) (any, *Fault) {
	p, fault := s.resource(in)
	if fault != nil {
		return nil, fault
	}
	p.tag(in.Tags)
	return empty{}, nil
}

func (s *Server) listTagsForResource(in request) (any, *Fault) {
	p, fault := s.resource(in)
	if fault != nil {
		return nil, fault
	}
	out := struct{ TagList []tag }{[]tag{}}
	for _, key := range slices.Sorted(maps.Keys(p.tags)) {
		out.TagList = append(out.TagList, tag{key, p.tags[key]})
	}
	return out, nil
}

func (s *Server) resource(in request) (*parameter, *Fault) {
	if in.ResourceType != "Parameter" {
		return nil, &Fault{Code: "InvalidResourceType", Message: "Invalid Resource Type"}
	}
	p, fault := s.named(in.ResourceId)
	if fault != nil {
		return nil, &Fault{Code: "InvalidResourceId", Message: "Invalid Resource Id"}
	}
	return p, nil
}
