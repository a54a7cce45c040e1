package taskdef

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Policy is an IAM policy of a role.
type Policy struct {
	Version   string
	Statement []Statement
}

// A Statement is one of its permissions.
type Statement struct {
	Sid       string
	Effect    string
	Action    oneOrMore
	Resource  oneOrMore
	Principal any
	Condition map[string]map[string]oneOrMore
}

// oneOrMore is a list that may be written as its one element.
type oneOrMore []string

func (l *oneOrMore) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*l = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(l))
}

func isPolicy(text []byte) bool {
	var p struct{ Statement any }
	return json.Unmarshal(text, &p) == nil && p.Statement != nil
}

func parsePolicy(text []byte) (Policy, error) {
	var p Policy
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, fmt.Errorf("not a policy: %w", err)
	}
	if p.Version != "2012-10-17" || len(p.Statement) == 0 {
		return p, errors.New(`a policy has the version "2012-10-17" and statements`)
	}
	return p, nil
}

// trust reports whether p is about who may assume the role, not about what the role may do.
func (p Policy) trust() bool { return p.Statement[0].Principal != nil }

var trustRules = []rule[Policy]{
	{"a role is assumed by one service of AWS, for this account alone", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			service, _ := s.Principal.(map[string]any)
			account, source := s.Condition["StringEquals"]["aws:SourceAccount"], s.Condition["ArnLike"]["aws:SourceArn"]
			name, _ := service["Service"].(string)
			short, _, _ := strings.Cut(name, ".")
			of := map[string]string{"ecs-tasks": ":ecs:", "scheduler": ":scheduler:"}[short]
			if !s.allows("sts:AssumeRole") || len(service) != 1 || of == "" || len(account) != 1 || len(source) != 1 || !strings.Contains(source[0], of) {
				return fmt.Sprintf("%v without aws:SourceAccount and aws:SourceArn", s.Principal)
			}
			return ""
		})
	}},
}

var policyRules = []rule[Policy]{
	{"a policy allows nothing on every resource, but for the one action that knows none", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			if slices.Contains(s.Resource, "*") && !slices.Equal(s.Action, oneOrMore{"ecr:GetAuthorizationToken"}) {
				return "Resource *"
			}
			return ""
		})
	}},
	{"a policy names its resources exactly", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			for _, r := range s.Resource {
				// The streams of a log group and the revisions of a task definition have names that AWS makes up.
				exact := strings.TrimSuffix(r, ":*")
				if r != "*" && strings.ContainsAny(exact, "*?") || exact != r && !onlyService(s, "logs") && !onlyService(s, "ecs") {
					return r
				}
			}
			return ""
		})
	}},
	{"a policy names its actions", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			if s.Effect != "Allow" || len(s.Action) == 0 || len(s.Resource) == 0 || strings.Contains(strings.Join(s.Action, " "), "*") {
				return "Effect, Action or Resource"
			}
			return ""
		})
	}},
	{"to encrypt is allowed through SSM, and for a parameter that may be written", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			if !s.allows("kms:Encrypt") && !s.allows("kms:GenerateDataKey") {
				return ""
			}
			equals := s.Condition["StringEquals"]
			via, context := equals["kms:ViaService"], equals["kms:EncryptionContext:PARAMETER_ARN"]
			if len(via) != 1 || !strings.HasPrefix(via[0], "ssm.") || len(context) != 1 || !slices.Contains(p.resources("ssm:PutParameter"), context[0]) {
				return "kms:Encrypt without kms:ViaService or without a parameter that ssm:PutParameter has"
			}
			return ""
		})
	}},
	{"a role is passed to ECS tasks alone, and a task is run in one cluster", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			switch {
			case s.allows("iam:PassRole") && !slices.Equal(s.Condition["StringEquals"]["iam:PassedToService"], oneOrMore{"ecs-tasks.amazonaws.com"}):
				return "iam:PassRole"
			case s.allows("ecs:RunTask") && len(s.Condition["ArnEquals"]["ecs:cluster"]) != 1:
				return "ecs:RunTask"
			}
			return ""
		})
	}},
	{"to decrypt is allowed through the service that stores the key, and for what is read there alone", func(p Policy) []string {
		return eachStatement(p, func(s Statement) string {
			if !s.allows("kms:Decrypt") {
				return ""
			}
			equals := s.Condition["StringEquals"]
			via := equals["kms:ViaService"]
			if len(via) != 1 {
				return "kms:Decrypt without kms:ViaService"
			}
			service, _, _ := strings.Cut(via[0], ".")
			read, known := decryptedBy[service]
			if !known || !slices.Equal(equals[read.context], p.resources(read.action)) {
				return "kms:Decrypt for something else than what SSM or Secrets Manager may read"
			}
			return ""
		})
	}},
}

// decryptedBy gives, for a service, the action that reads it, and the field of KMS's encryption context that names what
// is read.
var decryptedBy = map[string]struct{ action, context string }{
	"ssm":            {"ssm:GetParameters", "kms:EncryptionContext:PARAMETER_ARN"},
	"secretsmanager": {"secretsmanager:GetSecretValue", "kms:EncryptionContext:SecretARN"},
}

func (p Policy) resources(action string) oneOrMore {
	for _, s := range p.Statement {
		if s.allows(action) {
			return s.Resource
		}
	}
	return nil
}

// allows is about one action by its name, whose case IAM ignores.
func (s Statement) allows(action string) bool {
	return slices.ContainsFunc(s.Action, func(a string) bool { return strings.EqualFold(a, action) })
}

func onlyService(s Statement, service string) bool {
	return !slices.ContainsFunc(s.Action, func(a string) bool { return !strings.HasPrefix(a, service+":") })
}

func eachStatement(p Policy, wrong func(Statement) string) []string {
	var all []string
	for i, s := range p.Statement {
		if w := wrong(s); w != "" {
			all = append(all, fmt.Sprintf("statement %d: %s", i+1, w))
		}
	}
	return all
}
