package localsnowflake

import (
	"cmp"
	"fmt"
	"slices"
)

// Privilege is one that a role may have on a user.
type Privilege int

// The privileges to change the keys of a user, and to do anything with it. OWNERSHIP includes the other.
const (
	ModifyAuthenticationMethods Privilege = iota + 1 // MODIFY PROGRAMMATIC AUTHENTICATION METHODS
	Ownership
)

// SetRoles grants the user the roles and no others but PUBLIC; the first one is its default. Until then it has PUBLIC
// alone. The names are read as a statement's: in upper case unless they are in double quotes. A role exists if a user
// has it, or if it has a privilege.
func (s *Server) SetRoles(name string, roles ...string) {
	s.mustAlter(name, func(u *user) {
		u.roles, u.defaultRole = make([]string, len(roles)), ""
		for i, role := range roles {
			u.roles[i] = mustName(role)
		}
		if len(roles) > 0 {
			u.defaultRole = u.roles[0]
		}
	})
}

// SetDefaultRole sets the user's DEFAULT_ROLE. As in Snowflake nothing checks that the user has it: a login that asks for
// no role is refused then.
func (s *Server) SetDefaultRole(name, role string) {
	s.mustAlter(name, func(u *user) { u.defaultRole = mustName(role) })
}

// Grant gives a role a privilege on the user. It counts for those who ask for the role, or have it by
// default: secondary roles are not modelled.
func (s *Server) Grant(privilege Privilege, name, role string) {
	s.mustAlter(name, func(u *user) { u.grant(privilege, mustName(role)) })
}

// SetCanAlterUsers sets whether the user may do anything with every user, itself included, whatever its role.
// A user that is created may. One that may not needs what Grant gives, also for its own keys.
func (s *Server) SetCanAlterUsers(name string, allowed bool) {
	s.mustAlter(name, func(u *user) { u.canAlterUsers = allowed })
}

func (u user) hasRole(role string) bool {
	return role == publicRole || slices.Contains(u.roles, role)
}

func (u user) initialRole() string { return cmp.Or(u.defaultRole, publicRole) }

// assume returns the requested role, the user's default if none is requested, or why the client gets none. A driver's login
// folds a role to upper case; the SQL API takes it as it is.
func (s *Server) assume(c *call, requested string) (string, *failure) {
	u, _ := s.users.find(c.User)
	role := cmp.Or(requested, u.initialRole())
	switch {
	case u.hasRole(role):
	case requested == "":
		return "", refusedDefaultRole(role)
	default:
		return "", s.refusedRole(role)
	}
	// How Snowflake refuses a key pair that is restricted to another role is not documented.
	if k, ok := u.activePair(c.Fingerprint, s.clock()); ok && k.role != "" && k.role != role {
		return "", refusedToken(JWTInvalid)
	}
	return role, nil
}

func (s *Server) refusedRole(role string) *failure {
	code, why := RoleNotFound, "does not exist or not authorized"
	if s.users.roleExists(role) {
		code, why = RoleNotGranted, "is not granted to this user"
	}
	return &failure{code: code, message: fmt.Sprintf("Role '%s' specified in the connect string %s. "+
		"Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.", role, why)}
}

// refusedDefaultRole has Snowflake's text. Its code is inferred from that for a role that is asked for.
func refusedDefaultRole(role string) *failure {
	return &failure{code: RoleNotGranted, message: fmt.Sprintf("User's configured default role '%s' is not granted to this user. "+
		"Contact your local system administrator, or attempt to login using a CLI client with a connect string selecting another "+
		"role, e.g. PUBLIC.", role)}
}

// refusedUse is why USE ROLE fails.
func (s *Server) refusedUse(role string) *failure {
	if !s.users.roleExists(role) {
		return &failure{code: NoSuchObject, sqlState: "02000",
			message: "SQL compilation error:\nObject does not exist, or operation cannot be performed."}
	}
	return &failure{code: RoleNotAssigned, sqlState: "42501", message: fmt.Sprintf("SQL access control error:\n"+
		"Requested role '%s' is not assigned to the executing user.  Specify another role to activate.", role)}
}

// roleExists tells whether a statement has created the role, anybody has it, or it has a privilege.
func (u *users) roleExists(role string) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.roles[role] || role == publicRole {
		return true
	}
	for _, one := range u.byName {
		if _, granted := one.grants[role]; granted || slices.Contains(one.roles, role) {
			return true
		}
	}
	return false
}

// authorize returns why the current user, in its role, lacks the privilege on the user.
func (sc *scope) authorize(name string, needed Privilege) *failure {
	target, exists := sc.server.users.find(name)
	if !exists {
		return objectNotFound("User", name)
	}
	current, _ := sc.server.users.find(sc.user)
	if !current.canAlterUsers && target.grants[sc.context().Role] < needed {
		return accessDenied(fmt.Sprintf("user '%s'", name))
	}
	return nil
}

// visibleUser returns a user if the current user may see it. Everybody sees themselves.
func (sc *scope) visibleUser(name string, needed Privilege) (user, *failure) {
	name = cmp.Or(name, sc.user)
	if name != sc.user {
		if failure := sc.authorize(name, needed); failure != nil {
			return user{}, failure
		}
	}
	found, _ := sc.server.users.find(name)
	return found, nil
}

// alter changes a user, the current one if it has no name, if the current one may.
func (sc *scope) alter(name string, ifExists bool, needed Privilege, change func(*user) *failure) ([][]*string, *failure) {
	name = cmp.Or(name, sc.user)
	if _, exists := sc.server.users.find(name); !exists && ifExists {
		return executedRow, nil
	}
	if failure := sc.authorize(name, needed); failure != nil {
		return nil, failure
	}
	var failure *failure
	sc.server.users.alter(name, func(u *user) { failure = change(u) })
	if failure != nil {
		return nil, failure
	}
	return executedRow, nil
}
