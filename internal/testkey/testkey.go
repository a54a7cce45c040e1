// Package testkey makes RSA keys for tests, each once per process: making one takes longer than most
// tests. Only tests import it.
package testkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"sync"

	"github.com/youmark/pkcs8"

	"github.com/snowkey/snowkey/shared/keyfile"
)

var (
	mu   sync.Mutex
	keys = map[int]*keyfile.Key{}
)

// Key is the nth test key of this process, of 2048 bits.
func Key(n int) *keyfile.Key {
	mu.Lock()
	defer mu.Unlock()
	if k, ok := keys[n]; ok {
		return k
	}
	private, err := rsa.GenerateKey(rand.Reader, keyfile.MinBits)
	if err != nil {
		panic(fmt.Sprintf("no test key: %v", err))
	}
	k, err := keyfile.FromRSA(private)
	if err != nil {
		panic(fmt.Sprintf("no test key: %v", err))
	}
	keys[n] = k
	return k
}

// Encrypted is the key as Parameter Store has it: PEM of encrypted PKCS#8. It is quick to open, since its
// encryption is not what is tested with it.
func Encrypted(key *keyfile.Key, passphrase string) string {
	der, err := pkcs8.MarshalPrivateKey(key.RSA(), []byte(passphrase), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 1000, HMACHash: crypto.SHA256},
	})
	if err != nil {
		panic(fmt.Sprintf("no encrypted test key: %v", err))
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}))
}
