package localssm

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	maxLevels    = 15
	maxARNLength = 1011
)

var (
	simpleName = regexp.MustCompile(`^/?[a-zA-Z0-9_.-]+$`)
	pathName   = regexp.MustCompile(`^(/[a-zA-Z0-9_.-]+){2,}$`)
	subPaths   = regexp.MustCompile(`^/?[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*$`)
)

// reference is how a request names a parameter to read.
type reference struct {
	name     string // bare: neither ARN nor selector
	selector string // version or label; "" is the latest version
}

// reference takes a requested name apart: name, name:version, name:label, or any of them as an ARN.
func (s *Server) reference(requested string) reference {
	bare := s.bareName(strings.TrimSpace(requested))
	if strings.HasPrefix(bare, "arn:") {
		return reference{name: bare}
	}
	name, selector, _ := strings.Cut(bare, ":")
	return reference{name: name, selector: selector}
}

// bareName turns an ARN of this account and Region into the name that it stands for. Any other ARN stays
// what it is, and is found nowhere.
func (s *Server) bareName(requested string) string {
	path, ours := strings.CutPrefix(requested, s.parameterARN(""))
	if !ours {
		return requested
	}
	if strings.Count(path, "/") == 1 {
		return path[1:]
	}
	return path
}

// canonical returns the key under which a requested parameter is stored.
func (s *Server) canonical(requested string) string {
	return canonicalName(s.reference(requested).name)
}

// canonicalName knows that /key and key are one and the same to AWS.
func canonicalName(name string) string {
	if simpleName.MatchString(name) {
		return strings.TrimPrefix(name, "/")
	}
	return name
}

func (s *Server) parameterARN(name string) string {
	arn := "arn:aws:ssm:" + s.region + ":" + s.account + ":parameter"
	if name != "" && !strings.HasPrefix(name, "/") {
		arn += "/"
	}
	return arn + name
}

// validToRead checks a reference in the one sentence that SSM has for it.
func (r reference) validToRead() *Fault {
	switch {
	case strings.HasPrefix(r.name, "arn:"), strings.HasPrefix(r.name, secretPrefix):
		return nil
	case !simpleName.MatchString(r.name) && !pathName.MatchString(r.name), hasPrefix(r.name, "ssm"), strings.Contains(r.selector, ":"):
		return badName()
	}
	return nil
}

// validToCreate checks the name of a new parameter.
func (s *Server) validToCreate(name string) *Fault {
	isPath := strings.Count(name, "/") > 1
	switch {
	case !subPaths.MatchString(name):
		return badName()
	case strings.Contains(name, "/") && !strings.HasPrefix(name, "/"):
		return invalid("Parameter name must be a fully qualified name.")
	case isPath && hasPrefix(name, "aws"):
		return &Fault{Code: "AccessDeniedException", Message: fmt.Sprintf("No access to reserved parameter name: %s.", name)}
	case isPath && hasPrefix(name, "ssm"):
		return badName()
	case hasPrefix(name, "aws"), hasPrefix(name, "ssm"):
		return invalid(`Parameter name: can't be prefixed with "aws" or "ssm" (case-insensitive).`)
	case strings.Count(name, "/") > maxLevels:
		return &Fault{Code: "HierarchyLevelLimitExceededException", Message: fmt.Sprintf("A hierarchy can have a maximum of %d levels.", maxLevels)}
	case len(s.parameterARN(name)) > maxARNLength:
		return unsatisfied(name, "name", fmt.Sprintf("Member must have length less than or equal to %d", maxARNLength))
	}
	return nil
}

func hasPrefix(name, prefix string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimPrefix(name, "/")), prefix)
}

func badName() *Fault {
	return invalid(`Parameter name: can't be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_`)
}

func invalid(message string) *Fault {
	return &Fault{Code: "ValidationException", Message: message}
}

// unsatisfied is what AWS says of a member that breaks the service model.
func unsatisfied(value any, member, constraint string) *Fault {
	return invalid(fmt.Sprintf("1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, member, constraint))
}
