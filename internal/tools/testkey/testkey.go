// Package testkey makes RSA keys for tests, each once per process: making one takes longer than most tests. Only tests
// import it, and its keys never leave them.
package testkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
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

// Encrypted is the key as Parameter Store has it: PEM of encrypted PKCS#8. It is quick to open: tests with it do not
// test its encryption.
func Encrypted(key *keyfile.Key, passphrase string) string {
	der, err := pkcs8.MarshalPrivateKey(key.RSA(), []byte(passphrase), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 1000, HMACHash: crypto.SHA256},
	})
	if err != nil {
		panic(fmt.Sprintf("no encrypted test key: %v", err))
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}))
}

// Forged is the PKCS#1 DER of an RSA key of that many bits whose numbers fit together, but whose primes are not
// prime. It is quick to make at any length.
func Forged(bits int) []byte {
	for {
		if der := pkcs1Of(65537, composite(bits/2), composite(bits/2)); der != nil {
			return der
		}
	}
}

// composite is an odd number. Of more than 4096 bits a random one is hardly ever prime, and a proof would take long.
func composite(bits int) *big.Int {
	for {
		random := make([]byte, bits/8)
		_, _ = rand.Read(random)
		random[0] |= 0xc0 // so that the product of two has twice the bits
		random[len(random)-1] |= 1
		if n := new(big.Int).SetBytes(random); bits > 4096 || !n.ProbablyPrime(0) {
			return n
		}
	}
}

// pkcs1Of is the PKCS#1 DER of the RSA key of these numbers, nil if there is none.
func pkcs1Of(e int64, p, q *big.Int) []byte {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	d := new(big.Int).ModInverse(big.NewInt(e), new(big.Int).Mul(p1, q1))
	inverse := new(big.Int).ModInverse(q, p)
	if d == nil || inverse == nil {
		return nil
	}
	der, err := asn1.Marshal(struct {
		Version                  int
		N                        *big.Int
		E                        int64
		D, P, Q, DP, DQ, Inverse *big.Int
	}{0, new(big.Int).Mul(p, q), e, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), inverse})
	if err != nil {
		panic(fmt.Sprintf("no forged test key: %v", err))
	}
	return der
}
