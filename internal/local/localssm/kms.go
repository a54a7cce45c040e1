package localssm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
)

const defaultKeyID = "alias/aws/ssm"

var keyUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// kmsKey stands in for a KMS key. It really encrypts, so that a value which was not decrypted cannot pass for one
// that was.
type kmsKey struct {
	id    string
	alias string
	aead  cipher.AEAD
}

func newKMSKey(alias string) *kmsKey {
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has GCM's block size
	}
	return &kmsKey{id: newID(), alias: alias, aead: aead}
}

// CreateKMSKey makes a customer managed key and returns its ID. It panics on an alias that CreateAlias refuses.
func (s *Server) CreateKMSKey(alias string) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := newKMSKey(alias)
	if !strings.HasPrefix(alias, "alias/") || strings.HasPrefix(alias, "alias/aws/") || s.kmsKey(alias) != nil {
		panic("localssm: KMS key " + alias + ": the alias is taken, AWS's own, or does not begin with alias/")
	}
	s.keys = append(s.keys, key)
	return key.id
}

// kmsKey finds a key by ID, alias, or the ARN of either.
func (s *Server) kmsKey(requested string) *kmsKey {
	requested = strings.TrimPrefix(requested, s.kmsARN(""))
	for _, k := range s.keys {
		if requested == k.alias || requested == k.id || requested == "key/"+k.id {
			return k
		}
	}
	return nil
}

// usableKey returns the key to encrypt with, or KMS's refusal as SSM passes it on.
func (s *Server) usableKey(requested string) (*kmsKey, *Fault) {
	key := s.kmsKey(requested)
	if key == nil {
		return nil, &Fault{Code: "InvalidKeyId", Message: s.noKey(requested) + " " + fromKMS("NotFoundException")}
	}
	return key, s.enabled(key)
}

func (s *Server) noKey(requested string) string {
	switch {
	case strings.HasPrefix(requested, "alias/"):
		return "Alias " + s.kmsARN(requested) + " is not found."
	case keyUUID.MatchString(requested):
		return "Key '" + s.kmsARN("key/"+requested) + "' does not exist"
	case strings.HasPrefix(requested, "arn:"):
		return "Key '" + requested + "' does not exist"
	}
	return fmt.Sprintf("Invalid keyId '%s'", requested)
}

// enabled answers for a key that DisableKMSKey has disabled.
func (s *Server) enabled(key *kmsKey) *Fault {
	if s.faults.keyDisabled[key.alias] {
		return s.disabled(key)
	}
	return nil
}

func (s *Server) disabled(key *kmsKey) *Fault {
	return &Fault{Code: "InvalidKeyId", Message: s.kmsARN("key/"+key.id) + " is disabled. " + fromKMS("DisabledException")}
}

// encrypt binds the ciphertext to the parameter's ARN, which is SSM's encryption context.
func (k *kmsKey) encrypt(plaintext, arn string) string {
	return base64.StdEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(plaintext), []byte(arn)))
}

func (k *kmsKey) decrypt(ciphertext, arn string) string {
	sealed, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil {
		panic(err) // encrypt made it
	}
	plaintext, err := k.aead.Open(nil, nil, sealed, []byte(arn))
	if err != nil {
		panic(err) // encrypt made it
	}
	return string(plaintext)
}

func (s *Server) kmsARN(resource string) string {
	return "arn:aws:kms:" + s.region + ":" + s.account + ":" + resource
}
