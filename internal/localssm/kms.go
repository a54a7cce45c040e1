package localssm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
)

const defaultKeyID = "alias/aws/ssm"

// kmsKey stands in for the KMS key of every SecureString. It really encrypts, so that a value which was
// not decrypted cannot pass for one that was.
type kmsKey struct {
	id   string
	aead cipher.AEAD
}

func newKMSKey() *kmsKey {
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
	return &kmsKey{id: newID(), aead: aead}
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

func (s *Server) keyARN() string {
	return "arn:aws:kms:" + s.region + ":" + s.account + ":key/" + s.key.id
}
