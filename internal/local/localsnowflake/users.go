package localsnowflake

import (
	"cmp"
	"crypto/rsa"
	"slices"
	"strings"
	"sync"
	"time"
)

// user is one user of the account.
type user struct {
	name          string        // for statements
	login         string        // for tokens, in upper case
	keys          [2]*publicKey // RSA_PUBLIC_KEY and RSA_PUBLIC_KEY_2
	setAt         [2]time.Time
	pairs         []keyPair            // replaced, never changed
	roles         []string             // besides PUBLIC
	defaultRole   string               // DEFAULT_ROLE, which it need not have; "" for none
	grants        map[string]Privilege // of roles on this user; replaced, never changed
	canAlterUsers bool
	disabled      bool
	lockedUntil   time.Time
}

// set puts a key in a slot, or empties it. When a key was last put there is still known afterwards.
func (u *user) set(slot int, key *publicKey, at time.Time) {
	u.keys[slot] = key
	if key != nil {
		u.setAt[slot] = at
	}
}

func (u user) isLocked(now time.Time) bool { return now.Before(u.lockedUntil) }

// barred returns why the user may not log in with whatever key, or 0.
func (u user) barred(now time.Time) Code {
	switch {
	case u.disabled:
		return UserDisabled
	case u.isLocked(now):
		return UserLocked
	}
	return 0
}

// key returns the key with the fingerprint, nil if no slot and no active key pair has it.
func (u *user) key(fingerprint string, now time.Time) *publicKey {
	for _, key := range u.keys {
		if key != nil && key.fingerprint == fingerprint {
			return key
		}
	}
	active, _ := u.activePair(fingerprint, now)
	return active.key
}

// used notes that the key has opened a session, or called the SQL API. Slots have no place for that.
func (s *Server) used(name, fingerprint string) {
	now := s.clock()
	if u, _ := s.users.find(name); len(u.pairs) == 0 {
		return
	}
	s.users.alter(name, func(u *user) {
		u.pairs = slices.Clone(u.pairs)
		for i, k := range u.pairs {
			if k.key.fingerprint == fingerprint && k.isActive(now) {
				u.pairs[i].lastUsedOn = now
			}
		}
	})
}

// users are looked up far more often than altered: readers get a copy.
type users struct {
	mu      sync.RWMutex
	byName  map[string]user
	byLogin map[string]string // the name of each
	roles   map[string]bool   // that a statement has created
}

func (u *users) find(name string) (user, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	found, ok := u.byName[name]
	return found, ok
}

// nameOf returns the name of the user with the login name, which itself stands for a user that does not exist.
func (u *users) nameOf(login string) string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return cmp.Or(u.byLogin[login], login)
}

// findLogin returns the user with the login name.
func (u *users) findLogin(login string) (user, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	found, ok := u.byName[u.byLogin[login]]
	return found, ok
}

// alter returns false if there is no such user.
func (u *users) alter(name string, change func(*user)) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, ok := u.byName[name]
	if !ok {
		return false
	}
	change(&found)
	u.byName[name] = found
	return true
}

// CreateUser creates a user without keys, who may alter users. The name is read as a statement's: in upper case unless it
// is in double quotes. It does nothing if there is such a user already.
func (s *Server) CreateUser(name string) { s.CreateUserWithLogin(name, unquoted(name)) }

// CreateUserWithLogin creates a user whose LOGIN_NAME is not its name. Upper and lower case are the same in a LOGIN_NAME,
// and no two users may have the same one.
func (s *Server) CreateUserWithLogin(name, login string) {
	name, login = mustName(name), strings.ToUpper(login)
	if taken := s.users.add(user{name: name, login: login, canAlterUsers: true}); taken != "" && taken != name {
		panic("localsnowflake: " + login + " is the login name of " + s.users.nameOf(login))
	}
}

// SetPublicKey puts the key in a slot of the user, 1 or 2. Like the other methods for users, it panics if
// there is no such user or slot, or if Snowflake would refuse the key: that is a mistake in the test.
func (s *Server) SetPublicKey(user string, slot int, pub *rsa.PublicKey) {
	s.setKey(user, slot, mustBeLongEnough(pub), s.clock())
}

// UnsetPublicKey empties a slot of the user, 1 or 2.
func (s *Server) UnsetPublicKey(user string, slot int) {
	s.setKey(user, slot, nil, time.Time{})
}

func (s *Server) setKey(name string, slot int, key *publicKey, at time.Time) {
	s.mustAlter(name, func(u *user) { u.set(slot-1, key, at) })
}

// SetDisabled disables the user or enables it again: ALTER USER ... SET DISABLED. Sessions go on.
func (s *Server) SetDisabled(name string, disabled bool) {
	s.mustAlter(name, func(u *user) { u.disabled = disabled })
}

// Lock keeps the user from logging in for some time: ALTER USER ... SET MINS_TO_UNLOCK.
func (s *Server) Lock(name string, d time.Duration) {
	s.mustAlter(name, func(u *user) { u.lockedUntil = s.clock().Add(d) })
}

// Fingerprints returns what DESC USER shows for the two slots, empty where no key is set.
func (s *Server) Fingerprints(name string) (slots [2]string) {
	for slot, key := range s.mustFind(name).keys {
		if key != nil {
			slots[slot] = key.fingerprint
		}
	}
	return slots
}

func (s *Server) mustFind(name string) user {
	found, ok := s.users.find(unquoted(name))
	if !ok {
		panic(noSuchUser(name))
	}
	return found
}

func (s *Server) mustAlter(name string, change func(*user)) {
	if !s.users.alter(unquoted(name), change) {
		panic(noSuchUser(name))
	}
}

func noSuchUser(name string) string { return "localsnowflake: there is no user " + name }
