package decrypt

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

func pbkdf2Of(t *testing.T, iterations int, prf string) algorithm {
	t.Helper()
	return algorithmOf(t, oidPBKDF2, struct {
		Salt       []byte
		Iterations int
		PRF        struct{ OID asn1.ObjectIdentifier }
	}{[]byte("salt"), iterations, struct{ OID asn1.ObjectIdentifier }{objectIDOf(t, prf)}})
}

func scryptOf(t *testing.T, salt, n, r, p int) algorithm {
	t.Helper()
	return algorithmOf(t, oidScrypt, struct {
		Salt    []byte
		N, R, P int
	}{bytes.Repeat([]byte("s"), salt), n, r, p})
}

const (
	hmacMD5    = "1.2.840.113549.2.6"
	hmacSHA1   = "1.2.840.113549.2.7"
	hmacSHA256 = "1.2.840.113549.2.9"
	hmacSHA512 = "1.2.840.113549.2.11"
	hmacSHA3   = "2.16.840.1.101.3.4.2.14" // of 256 bits
)

// Each of these would take from several seconds to hours, on a fast machine.
func TestParse_RefusesCostlyKeyDerivation(t *testing.T) {
	for name, tc := range map[string]struct {
		kdf  algorithm
		want string
	}{
		"2^31 iterations":            {pbkdf2Of(t, 1<<31-1, hmacSHA256), "PBKDF2 with hmacWithSHA256, 2147483647 iterations"},
		"slow hash":                  {pbkdf2Of(t, 10_000_000, hmacSHA512), "at most 2000000"},
		"two hashes for each key":    {pbkdf2Of(t, 4_000_000, hmacSHA1), "at most 2000000"},
		"SHA-3":                      {pbkdf2Of(t, 1_400_000, hmacSHA3), "at most 1333333"},
		"no iterations":              {pbkdf2Of(t, 0, hmacSHA256), "0 iterations"},
		"negative iterations":        {pbkdf2Of(t, -1, hmacSHA256), "-1 iterations"},
		"scrypt of 16 GiB":           {scryptOf(t, 16, 1<<24, 8, 1), "scrypt with N=16777216"},
		"scrypt of 64 MiB, 16 times": {scryptOf(t, 16, 1<<16, 8, 16), "scrypt with N=65536, r=8, p=16"},
		"scrypt of 16 MiB, 16 times": {scryptOf(t, 16, 1<<14, 8, 16), "at most N*r*p 1048576, in 136 MiB of memory"},
		"scrypt of many p":           {scryptOf(t, 16, 1<<14, 8, 1<<20), "scrypt with N="},
		"scrypt of small N, many p":  {scryptOf(t, 16, 2, 1, 1<<19), "scrypt with N=2"},
		"scrypt of small N, large r": {scryptOf(t, 16, 2, 1<<19, 1), "scrypt with N=2"},
		"scrypt of 152 MiB":          {scryptOf(t, 16, 16, 1<<16, 1), "at most 136 MiB of memory"},
		"scrypt of small N, both":    {scryptOf(t, 16, 2, 1<<10, 1<<9), "scrypt with N=2"},
		"scrypt that wraps N*r":      {scryptOf(t, 16, 1<<30, 1<<30, 1<<30), "scrypt with N="},
		"scrypt of a long salt":      {scryptOf(t, 40_000, 2, 1, 1<<16), "salt of at most 128 bytes"},
		"scrypt of no r":             {scryptOf(t, 16, 1<<14, 0, 1), "scrypt parameters are damaged"},
		"scrypt of N not a power":    {scryptOf(t, 16, 1<<14+1, 8, 1), "scrypt parameters are damaged"},
		"scrypt of negative p":       {scryptOf(t, 16, 1<<14, 8, -1), "scrypt parameters are damaged"},
		"scrypt that wraps p*r to 0": {scryptOf(t, 16, 2, 1<<31-1, 1<<31-1), "scrypt with N="},
		"scrypt that wraps N*r*p":    {scryptOf(t, 16, 1<<20, 1<<22, 1<<22), "scrypt with N="},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			stored, err := Parse(secret.New(withKDF(t, tc.kdf)), secret.New([]byte(passphrase+"\n")))
			if err == nil || !strings.Contains(err.Error(), tc.want) || failure.Class(err) != keyfile.ClassUnreadableKey {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if stored.Encryption != "" {
				t.Errorf("encryption %q, which is refused", stored.Encryption)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v to refuse", took)
			}
		})
	}
}

// What other programs use as they come, and OWASP's figures. The passphrase is wrong, and tried twice.
func TestParse_TakesUsualKeyDerivation(t *testing.T) {
	testenv.Heavy(t)
	for name, kdf := range map[string]algorithm{
		"openssl":                scryptOf(t, 16, 1<<14, 8, 1),
		"openssl's largest":      scryptOf(t, 16, 1<<14, 15, 1),
		"BoringSSL's largest":    scryptOf(t, 16, 1<<16, 8, 1),
		"RustCrypto":             scryptOf(t, 16, 1<<17, 8, 1),
		"OWASP, smallest":        scryptOf(t, 16, 1<<13, 8, 10),
		"OWASP, PBKDF2, SHA-1":   pbkdf2Of(t, 1_300_000, hmacSHA1),
		"OWASP, PBKDF2, SHA-256": pbkdf2Of(t, 600_000, hmacSHA256),
		"OWASP, PBKDF2, SHA-512": pbkdf2Of(t, 210_000, hmacSHA512),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse(secret.New(withKDF(t, kdf)), secret.New([]byte("wrong\r\n")))
			if failure.Class(err) != keyfile.ClassPassphrase {
				t.Errorf("error %v", err)
			}
			took := time.Since(start)
			t.Log(took.Round(time.Millisecond))
			if took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Both tries together must not take more memory than one: a container's limit would end the sidecar.
func TestParse_FreesMemoryOfScrypt(t *testing.T) {
	testenv.Heavy(t)
	text := secret.New(withKDF(t, scryptOf(t, 16, 1<<17, 8, 1)))
	runtime.GC()
	before := heap()
	done := make(chan error)
	go func() {
		_, err := Parse(text, secret.New([]byte("wrong\n")))
		done <- err
	}()
	largest := before
	for opening := true; opening; {
		select {
		case err := <-done:
			opening = false
			if failure.Class(err) != keyfile.ClassPassphrase {
				t.Fatal(err)
			}
		case <-time.After(5 * time.Millisecond):
			largest = max(largest, heap())
		}
	}
	if grown := (largest - before) >> 20; grown < 100 || grown > 160 {
		t.Errorf("the heap grew by %d MiB, want 128", grown)
	}
	if left := (heap() - before) >> 20; left > 16 {
		t.Errorf("%d MiB are left", left)
	}
}

// heap is the size of all objects, with those that are not collected yet.
func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// BenchmarkDeriveKey measures the most that is allowed, one try.
func BenchmarkDeriveKey(b *testing.B) {
	const keySize = 32
	benchmarks := map[string]func() ([]byte, error){}
	for _, oid := range []string{hmacMD5, hmacSHA1, hmacSHA256, hmacSHA512, hmacSHA3} {
		prf := prfs[oid]
		params := &pbkdf2Params{
			Salt: make([]byte, 16), Iterations: maxPBKDF2Work / costOf(prf.hash(), keySize), PRF: algorithm{OID: objectIDOf(b, oid)},
		}
		benchmarks[prf.name] = func() ([]byte, error) { return params.deriveKey([]byte(passphrase), keySize) }
	}
	for _, params := range []*scryptParams{
		{N: 1 << 17, R: 8, P: 1}, {N: 1 << 14, R: 8, P: 8}, {N: minScryptN, R: 1, P: 1 << 16}, {N: 2, R: 1, P: 1 << 16},
	} {
		params.Salt = make([]byte, maxScryptSalt)
		benchmarks[params.String()] = func() ([]byte, error) { return params.deriveKey([]byte(passphrase), keySize) }
	}
	for name, derive := range benchmarks {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := derive(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func objectIDOf(t testing.TB, dotted string) asn1.ObjectIdentifier {
	t.Helper()
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		number, err := strconv.Atoi(arc)
		if err != nil {
			t.Fatal(err)
		}
		oid = append(oid, number)
	}
	return oid
}

func algorithmOf(t *testing.T, oid string, params any) algorithm {
	t.Helper()
	der, err := asn1.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return algorithm{OID: objectIDOf(t, oid), Parameters: asn1.RawValue{FullBytes: der}}
}

// withKDF is openssl's aes-256-cbc file with another key derivation written into it.
func withKDF(t *testing.T, kdf algorithm) []byte {
	t.Helper()
	block := pemIn(t, "aes256.p8")
	var key encryptedKey
	var scheme pbes2
	if _, err := asn1.Unmarshal(block.Bytes, &key); err != nil {
		t.Fatal(err)
	}
	if err := unmarshal(key.Algorithm, &scheme); err != nil {
		t.Fatal(err)
	}
	scheme.KDF = kdf
	key.Algorithm = algorithmOf(t, oidPBES2, scheme)
	der, err := asn1.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	block.Bytes = der
	return pem.EncodeToMemory(block)
}
