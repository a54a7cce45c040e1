package keyfile_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
)

// pkcs8 wraps PKCS#1.
func pkcs8(t *testing.T, pkcs1 []byte) []byte {
	t.Helper()
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Version   int
		Algorithm algorithm
		Key       []byte
	}{0, algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}, pkcs1})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Without a check of its own FromRSA would accept such a key: all its other steps succeed.
func TestParse_NotPrime(t *testing.T) {
	for _, der := range [][]byte{testkey.Forged(2048), pkcs8(t, testkey.Forged(4096))} {
		if _, err := keyfile.Parse(der); !errors.Is(err, keyfile.ErrNotPrime) {
			t.Errorf("error %v", err)
		}
	}
}

// The longer the numbers of a key, the longer its check takes: half a second at the largest size of a file.
func TestParse_BoundsModulus(t *testing.T) {
	for _, bits := range []int{keyfile.MaxBits, keyfile.MaxBits + 16, 16384, 80000} {
		want := keyfile.ErrTooLong
		if bits == keyfile.MaxBits {
			want = keyfile.ErrNotPrime // not too long
		}
		pkcs1 := testkey.Forged(bits)
		for form, der := range map[string][]byte{
			"PKCS#1": pkcs1, "PKCS#8": pkcs8(t, pkcs1),
			"PEM": encodePEM("PRIVATE KEY", pkcs8(t, pkcs1)), "PEM of PKCS#1": encodePEM("RSA PRIVATE KEY", pkcs1),
		} {
			t.Run(fmt.Sprintf("%d bits, %s", bits, form), func(t *testing.T) {
				start := time.Now()
				if _, err := keyfile.Parse(der); !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

func TestFromRSA_BoundsModulus(t *testing.T) {
	long := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1<<20), E: 65537}}
	if _, err := keyfile.FromRSA(long); !errors.Is(err, keyfile.ErrTooLong) {
		t.Errorf("error %v", err)
	}
}

// crypto/x509 checks none of the primes of such a key.
func TestParse_MultiPrime(t *testing.T) {
	key, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048) //nolint:staticcheck // others may still make them
	if err != nil {
		t.Fatal(err)
	}
	for form, der := range map[string][]byte{"PKCS#1": x509.MarshalPKCS1PrivateKey(key), "PKCS#8": pkcs8(t, x509.MarshalPKCS1PrivateKey(key))} {
		if _, err := keyfile.Parse(der); !errors.Is(err, keyfile.ErrMultiPrime) {
			t.Errorf("%s: error %v", form, err)
		}
	}
}

// crypto/x509 refuses them, and this package relies on it.
func TestParse_InconsistentNumbers(t *testing.T) {
	private := testkey.Key(0).RSA()
	p, q := private.Primes[0], private.Primes[1]
	type numbers struct {
		Version                  int
		N                        *big.Int
		E                        int
		D, P, Q, DP, DQ, Inverse *big.Int
	}
	right := numbers{0, private.N, private.E, private.D, p, q, private.Precomputed.Dp, private.Precomputed.Dq, private.Precomputed.Qinv}
	one := big.NewInt(1)
	for name, change := range map[string]func(*numbers){
		"e is 1":          func(n *numbers) { n.E, n.D, n.DP, n.DQ = 1, one, one, one },
		"e is even":       func(n *numbers) { n.E = 2 },
		"e is negative":   func(n *numbers) { n.E = -3 },
		"p equals q":      func(n *numbers) { n.N, n.Q, n.DQ, n.Inverse = new(big.Int).Mul(p, p), p, n.DP, one },
		"another modulus": func(n *numbers) { n.N = new(big.Int).Add(n.N, big.NewInt(2)) },
		"another d":       func(n *numbers) { n.D = new(big.Int).Add(n.D, big.NewInt(2)) },
		"p is 1":          func(n *numbers) { n.P, n.Q = one, n.N },
		"version 2":       func(n *numbers) { n.Version = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			changed := right
			change(&changed)
			der, err := asn1.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := keyfile.Parse(der); !errors.Is(err, keyfile.ErrNotKey) {
				t.Errorf("error %v", err)
			}
			if _, err := keyfile.Parse(pkcs8(t, der)); !errors.Is(err, keyfile.ErrNotKey) {
				t.Errorf("as PKCS#8: error %v", err)
			}
		})
	}
}
