// Package testkey makes RSA keys for tests, each once per process: making one takes longer than most
// tests. Only tests import it.
package testkey

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

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
