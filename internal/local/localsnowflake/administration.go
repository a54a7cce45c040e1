package localsnowflake

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CREATE, DROP and GRANT for users and roles. They need what SetCanAlterUsers gives, but for a GRANT on a user, which its
// owner makes. The creator's role owns a new user.

func (p *parser) createStatement() statement {
	switch {
	case p.words("USER"):
		return p.createUser()
	case p.words("ROLE"):
		notExists := p.words("IF", "NOT", "EXISTS")
		return p.named(func(name string) statement { return createRole{name: name, ifNotExists: notExists} })
	}
	return p.createStage()
}

func (p *parser) dropStatement() statement {
	switch {
	case p.words("USER"):
		exists := p.words("IF", "EXISTS")
		return p.named(func(name string) statement { return dropUser{name: name, ifExists: exists} })
	case p.words("ROLE"):
		exists := p.words("IF", "EXISTS")
		return p.named(func(name string) statement { return dropRole{name: name, ifExists: exists} })
	}
	return p.unexpected()
}

// named takes a name, and makes a statement of it.
func (p *parser) named(build func(string) statement) statement {
	name, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	return build(name)
}

func (p *parser) createUser() statement {
	notExists := p.words("IF", "NOT", "EXISTS")
	name, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	c := createUser{name: name, login: name, ifNotExists: notExists}
	if p.atEnd() || p.peek().text == ";" {
		return c
	}
	properties, bad := p.assignments("USER", "TYPE", "LOGIN_NAME", "DEFAULT_ROLE", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "COMMENT")
	if bad != nil {
		return bad
	}
	for _, a := range properties {
		var failure *failure
		switch a.property {
		case "TYPE":
			failure = a.oneOf("PERSON", "SERVICE", "LEGACY_SERVICE")
		case "LOGIN_NAME":
			failure = a.name(&c.login)
		case "DEFAULT_ROLE":
			failure = a.name(&c.defaultRole)
		case "COMMENT":
			_, failure = a.textOrNull()
		default:
			failure = a.store(&c.keys[keySlot(a.property)])
		}
		if failure != nil {
			return rejected{failure: failure}
		}
	}
	return c
}

func (p *parser) grant() statement {
	var privilege Privilege
	switch {
	case p.words("ROLE"):
		role, ok := p.identifier()
		if !ok || !p.words("TO", "USER") {
			return p.unexpected()
		}
		return p.named(func(user string) statement { return grantRole{role: role, user: user} })
	case p.words("MODIFY", "PROGRAMMATIC", "AUTHENTICATION", "METHODS", "ON", "USER"):
		privilege = ModifyAuthenticationMethods
	case p.words("OWNERSHIP", "ON", "USER"):
		privilege = Ownership
	default:
		return p.unexpected()
	}
	user, ok := p.identifier()
	if !ok || !p.words("TO", "ROLE") {
		return p.unexpected()
	}
	return p.named(func(role string) statement { return grantPrivilege{privilege: privilege, user: user, role: role} })
}

// oneOf accepts these words.
func (a assignment) oneOf(words ...string) *failure {
	if !slices.ContainsFunc(words, a.isWord) {
		return a.invalid()
	}
	return nil
}

// name is a text as it is, or an identifier: in upper case unless it is in double quotes.
func (a assignment) name(into *string) *failure {
	switch a.value.kind {
	case text, quoted:
		*into = a.value.text
	case word:
		*into = strings.ToUpper(a.value.text)
	default:
		return a.invalid()
	}
	return nil
}

// ddlStatement is a statement for those who may alter every user.
type ddlStatement struct{ acknowledged }

func (ddlStatement) typeID() int64 { return typeDDL }

// statusRow is a result of one row, which says what has been done.
func statusRow(format string, args ...any) ([][]*string, *failure) {
	status := fmt.Sprintf(format, args...)
	return [][]*string{{&status}}, nil
}

func (sc *scope) mayAdminister() *failure {
	if current, _ := sc.server.users.find(sc.user); !current.canAlterUsers {
		return accessDenied(fmt.Sprintf("account '%s'", sc.server.account))
	}
	return nil
}

// accessDenied is the failure of a user who lacks the privilege.
func accessDenied(on string) *failure {
	return &failure{code: AccessDenied, sqlState: "42501", message: fmt.Sprintf("SQL access control error:\nInsufficient privileges to operate on %s.", on)}
}

func alreadyExists(name string) *failure {
	return &failure{code: ObjectExists, sqlState: "42710", message: fmt.Sprintf("SQL compilation error:\nObject '%s' already exists.", name)}
}

func objectNotFound(kind, name string) *failure {
	return &failure{code: ObjectNotFound, sqlState: "02000", message: fmt.Sprintf("SQL compilation error:\n%s '%s' does not exist or not authorized.", kind, name)}
}

type createUser struct {
	ddlStatement
	name, login string
	defaultRole string
	keys        [2]string
	ifNotExists bool
}

func (c createUser) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.mayAdminister(); failure != nil {
		return nil, failure
	}
	created := user{name: c.name, login: strings.ToUpper(c.login), defaultRole: c.defaultRole}
	if role := sc.context().Role; role != "" {
		created.grants = map[string]Privilege{role: Ownership}
	}
	for slot, text := range c.keys {
		if text == "" {
			continue
		}
		key, failure := parsePublicKey(text)
		if failure != nil {
			return nil, failure
		}
		created.set(slot, key, sc.server.clock())
	}
	taken := sc.server.users.add(created)
	switch {
	case taken == "":
		return statusRow("User %s successfully created.", c.name)
	case taken == c.name && c.ifNotExists:
		return statusRow("%s already exists, statement succeeded.", c.name)
	}
	return nil, alreadyExists(taken)
}

type dropUser struct {
	ddlStatement
	name     string
	ifExists bool
}

func (d dropUser) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.mayAdminister(); failure != nil {
		return nil, failure
	}
	if d.name == sc.user {
		return nil, &failure{code: InvalidValue, sqlState: "22023", message: "SQL compilation error:\nCannot drop the current user."}
	}
	if !sc.server.users.remove(d.name) && !d.ifExists {
		return nil, objectNotFound("User", d.name)
	}
	return statusRow("%s successfully dropped.", d.name)
}

type createRole struct {
	ddlStatement
	name        string
	ifNotExists bool
}

func (c createRole) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.mayAdminister(); failure != nil {
		return nil, failure
	}
	if sc.server.users.roleExists(c.name) && !c.ifNotExists {
		return nil, alreadyExists(c.name)
	}
	sc.server.users.createRole(c.name)
	return statusRow("Role %s successfully created.", c.name)
}

type dropRole struct {
	ddlStatement
	name     string
	ifExists bool
}

func (d dropRole) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.mayAdminister(); failure != nil {
		return nil, failure
	}
	if d.name == publicRole {
		return nil, accessDenied(fmt.Sprintf("role '%s'", d.name))
	}
	if !sc.server.users.roleExists(d.name) && !d.ifExists {
		return nil, objectNotFound("Role", d.name)
	}
	sc.server.users.dropRole(d.name)
	return statusRow("%s successfully dropped.", d.name)
}

type grantRole struct {
	ddlStatement
	role, user string
}

func (g grantRole) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.mayAdminister(); failure != nil {
		return nil, failure
	}
	if !sc.server.users.roleExists(g.role) {
		return nil, objectNotFound("Role", g.role)
	}
	if !sc.server.users.alter(g.user, func(u *user) { u.roles = append(slices.Clone(u.roles), g.role) }) {
		return nil, objectNotFound("User", g.user)
	}
	return executedRow, nil
}

type grantPrivilege struct {
	ddlStatement
	privilege  Privilege
	user, role string
}

func (g grantPrivilege) rows(sc *scope) ([][]*string, *failure) {
	if failure := sc.authorize(g.user, Ownership); failure != nil {
		return nil, failure
	}
	if !sc.server.users.roleExists(g.role) {
		return nil, objectNotFound("Role", g.role)
	}
	sc.server.users.alter(g.user, func(u *user) { u.grant(g.privilege, g.role) })
	return executedRow, nil
}

// grant gives a role a privilege on the user. There is one owner.
func (u *user) grant(privilege Privilege, role string) {
	u.grants = maps.Clone(u.grants)
	if u.grants == nil {
		u.grants = map[string]Privilege{}
	}
	if privilege == Ownership {
		maps.DeleteFunc(u.grants, func(_ string, has Privilege) bool { return has == Ownership })
	}
	u.grants[role] = max(privilege, u.grants[role])
}

// add returns the name that is taken already: the user's, or its login name. Otherwise it adds the user.
func (u *users) add(created user) (taken string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, exists := u.byName[created.name]; exists {
		return created.name
	}
	if _, exists := u.byLogin[created.login]; exists {
		return created.login
	}
	u.byName[created.name], u.byLogin[created.login] = created, created.name
	return ""
}

// remove returns false if there is no such user.
func (u *users) remove(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, ok := u.byName[name]
	delete(u.byName, name)
	delete(u.byLogin, found.login)
	return ok
}

func (u *users) createRole(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.roles[name] = true
}

// dropRole takes the role from every user, too.
func (u *users) dropRole(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.roles, name)
	for key, one := range u.byName {
		one.roles = slices.DeleteFunc(slices.Clone(one.roles), func(role string) bool { return role == name })
		one.grants = maps.Clone(one.grants)
		delete(one.grants, name)
		u.byName[key] = one
	}
}
