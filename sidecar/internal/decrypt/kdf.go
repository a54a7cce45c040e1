package decrypt

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/crypto/scrypt"
)

// The most that a key's encryption may cost, so that no stored value delays the start of every task or fills the memory
// of its container. The time is for one try of a passphrase. A passphrase is tried in several readings as long as all
// tries together end within ten seconds on a quarter of a vCPU, Fargate's smallest. BenchmarkDeriveKey measures a try.
//
// PBKDF2's work is the iterations times the hashes that the cipher's key takes (two of SHA-1 for aes-256); a hash of
// SHA-384 or SHA-512 counts twice, one of SHA-3 three times. openssl's default is 2048 iterations. OWASP recommends
// 600,000 with SHA-256 and 1,300,000 with SHA-1. The most took 0.8 to 1.1 s of one core here.
//
// scrypt's work is N*r*p. An N below 16 counts as 16, since the rest of scrypt does not shrink with N. openssl's
// default is 2^17. RustCrypto's default, which is OWASP's advice (N=2^17, r=8, p=1), is 2^20, and took 0.4 s. scrypt
// takes 128*r*(N+p) bytes and a little: 128 MiB by RustCrypto's default, and 16 MiB by openssl's, which stops at 32
// MiB.
const (
	maxPBKDF2Work   = 4_000_000
	maxPBKDF2Tries  = 2 * maxPBKDF2Work
	maxScryptWork   = 1 << 20
	maxScryptTries  = 5 * maxScryptWork
	maxScryptMemory = 136 << 20 // bytes
	minScryptN      = 16
	maxScryptSalt   = 128 // bytes; scrypt hashes the salt again for every 32 of 128*r*p bytes
)

// opensslMemory is the most, in bytes, that openssl uses for scrypt, without a setting for more.
const opensslMemory = 32 << 20

// scryptMemory lets one key be derived at a time, so that several keys do not take several times the memory.
var scryptMemory sync.Mutex

// prfs are the pseudo-random functions that are run, by object identifier.
var prfs = map[string]struct {
	name string
	hash func() hash.Hash
}{
	"":                        {"hmacWithSHA1", sha1.New}, // RFC 8018's default, written as an absent field
	"1.2.840.113549.2.6":      {"hmacWithMD5", md5.New},
	"1.2.840.113549.2.7":      {"hmacWithSHA1", sha1.New},
	"1.2.840.113549.2.8":      {"hmacWithSHA224", sha256.New224},
	"1.2.840.113549.2.9":      {"hmacWithSHA256", sha256.New},
	"1.2.840.113549.2.10":     {"hmacWithSHA384", sha512.New384},
	"1.2.840.113549.2.11":     {"hmacWithSHA512", sha512.New},
	"1.2.840.113549.2.12":     {"hmacWithSHA512-224", sha512.New512_224},
	"1.2.840.113549.2.13":     {"hmacWithSHA512-256", sha512.New512_256},
	"2.16.840.1.101.3.4.2.13": {"hmacWithSHA3-224", func() hash.Hash { return sha3.New224() }},
	"2.16.840.1.101.3.4.2.14": {"hmacWithSHA3-256", func() hash.Hash { return sha3.New256() }},
	"2.16.840.1.101.3.4.2.15": {"hmacWithSHA3-384", func() hash.Hash { return sha3.New384() }},
	"2.16.840.1.101.3.4.2.16": {"hmacWithSHA3-512", func() hash.Hash { return sha3.New512() }},
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int       `asn1:"optional"`
	PRF        algorithm `asn1:"optional"`
}

func (p *pbkdf2Params) String() string {
	return fmt.Sprintf("PBKDF2 with %s, %d iterations", prfs[p.PRF.OID.String()].name, p.Iterations)
}

func (p *pbkdf2Params) examine(keySize int) error {
	oid := p.PRF.OID.String()
	prf := prfs[oid]
	if prf.hash == nil {
		return refuse(oid)
	}
	limit := maxPBKDF2Work / costOf(prf.hash(), keySize)
	if p.Iterations < 1 || p.Iterations > limit {
		return tooCostly(p, strconv.Itoa(limit))
	}
	return nil
}

// costOf is the cost of one iteration for a key of size bytes.
func costOf(h hash.Hash, size int) int {
	hashes := (size + h.Size() - 1) / h.Size()
	if _, slow := h.(*sha3.SHA3); slow {
		return 3 * hashes
	}
	return hashes * h.BlockSize() / sha256.BlockSize
}

func (p *pbkdf2Params) tries(keySize int) int {
	work := p.Iterations * costOf(prfs[p.PRF.OID.String()].hash(), keySize)
	return min(maxReadings, maxPBKDF2Tries/work)
}

func (p *pbkdf2Params) deriveKey(passphrase []byte, size int) ([]byte, error) {
	return pbkdf2.Key(prfs[p.PRF.OID.String()].hash, string(passphrase), p.Salt, p.Iterations, size)
}

type scryptParams struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

func (p *scryptParams) String() string {
	return fmt.Sprintf("scrypt with N=%d, r=%d, p=%d", p.N, p.R, p.P)
}

func (p *scryptParams) examine(int) error {
	if p.N < 2 || p.N&(p.N-1) != 0 || p.R < 1 || p.P < 1 {
		return damaged("scrypt")
	}
	// Divided, not multiplied: the product of hostile numbers wraps around.
	if p.R > maxScryptWork/max(p.N, minScryptN) || p.P > maxScryptWork/max(p.N, minScryptN)/p.R {
		return tooCostly(p, fmt.Sprintf("N*r*p %d, in %d MiB of memory", maxScryptWork, maxScryptMemory>>20))
	}
	if p.memory() > maxScryptMemory {
		return tooCostly(p, fmt.Sprintf("%d MiB of memory", maxScryptMemory>>20))
	}
	if len(p.Salt) > maxScryptSalt {
		return tooCostly(p, fmt.Sprintf("a salt of at most %d bytes", maxScryptSalt))
	}
	return nil
}

func (p *scryptParams) tries(int) int {
	return min(maxReadings, maxScryptTries/(max(p.N, minScryptN)*p.R*p.P))
}

// memory is what scrypt allocates, in bytes.
func (p *scryptParams) memory() int { return 128 * p.R * (p.N + p.P + 2) }

func (p *scryptParams) deriveKey(passphrase []byte, size int) ([]byte, error) {
	scryptMemory.Lock()
	defer scryptMemory.Unlock()
	defer runtime.GC() // before the next key or the next try allocates as much again
	return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
}

// opensslReads reports whether openssl's own bound on the memory lets it derive the key.
func opensslReads(what kdf) bool {
	params, isScrypt := what.(*scryptParams)
	return !isScrypt || params.memory() <= opensslMemory
}

func tooCostly(what kdf, limit string) error {
	command := reencrypt
	if !opensslReads(what) {
		command = reencryptPython + " (pip install cryptography)" // openssl stops at 32 MiB
	}
	return unreadable(fmt.Errorf("the key is encrypted with %s, more than is run here (at most %s)", what, limit),
		"encrypt it again with: "+command)
}
