package localsnowflake

import (
	"crypto/rsa"
	"strings"
	"sync"
	"time"
)

// user is one user of the account.
type user struct {
	name          string
	keys          [2]*publicKey // RSA_PUBLIC_KEY and RSA_PUBLIC_KEY_2
	setAt         [2]time.Time
	canAlterUsers bool
}

func (u *user) set(slot int, key *publicKey, at time.Time) { u.keys[slot], u.setAt[slot] = key, at }

// key returns the key with the fingerprint, nil if no slot has it.
func (u *user) key(fingerprint string) *publicKey {
	for _, key := range u.keys {
		if key != nil && key.fingerprint == fingerprint {
			return key
		}
	}
	return nil
}

// users are looked up far more often than altered: readers get a copy.
type users struct {
	mu     sync.RWMutex
	byName map[string]user
}

func (u *users) find(name string) (user, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	found, ok := u.byName[name]
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

// CreateUser creates a user without keys, who may alter users. It does nothing if there is one already.
func (s *Server) CreateUser(name string) {
	name = strings.ToUpper(name)
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	if _, exists := s.users.byName[name]; !exists {
		s.users.byName[name] = user{name: name, canAlterUsers: true}
	}
}

// SetPublicKey puts the key in a slot of the user, 1 or 2. Like the other methods for users, it panics if
// there is no such user or slot: that is a mistake in the test.
func (s *Server) SetPublicKey(user string, slot int, pub *rsa.PublicKey) {
	s.setKey(user, slot, newPublicKey(pub), s.clock())
}

// UnsetPublicKey empties a slot of the user, 1 or 2.
func (s *Server) UnsetPublicKey(user string, slot int) {
	s.setKey(user, slot, nil, time.Time{})
}

func (s *Server) setKey(name string, slot int, key *publicKey, at time.Time) {
	s.mustAlter(name, func(u *user) { u.set(slot-1, key, at) })
}

// SetCanAlterUsers sets whether the user has the privilege to alter users, itself included.
func (s *Server) SetCanAlterUsers(name string, allowed bool) {
	s.mustAlter(name, func(u *user) { u.canAlterUsers = allowed })
}

// Fingerprints returns what DESC USER shows for the two slots, empty where no key is set.
func (s *Server) Fingerprints(name string) (slots [2]string) {
	found, ok := s.users.find(strings.ToUpper(name))
	if !ok {
		panic(noSuchUser(name))
	}
	for slot, key := range found.keys {
		if key != nil {
			slots[slot] = key.fingerprint
		}
	}
	return slots
}

func (s *Server) mustAlter(name string, change func(*user)) {
	if !s.users.alter(strings.ToUpper(name), change) {
		panic(noSuchUser(name))
	}
}

func noSuchUser(name string) string { return "localsnowflake: there is no user " + name }
