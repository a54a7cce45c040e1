package decrypt

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"hash"
	"runtime"
	"sync"

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/scrypt"
)

// The most that a key's encryption may cost, so that no stored value hangs the start of every task. The limits are for
// one try of a passphrase; a passphrase that ends in a line break is tried twice. Both tries end within ten seconds
// on a quarter of a vCPU, Fargate's smallest. BenchmarkDeriveKey measures a try.
//
// PBKDF2's work is the iterations times the hashes that the cipher's key takes (two of SHA-1 for aes-256); a hash
// of SHA-384 or SHA-512 counts twice. openssl's default is 2048 iterations. OWASP recommends 600,000 with SHA-256 and
// 1,300,000 with SHA-1. The most took 0.8 to 1.1 s of one core here.
//
// scrypt's work is N*r*p. An N below 16 counts as 16, since the rest of scrypt does not shrink with N. openssl's default
// is 2^17. RustCrypto's default, which is OWASP's advice (N=2^17, r=8, p=1), is 2^20, and took 0.4 s. The limit bounds
// the memory as well: 128*N*r bytes are at most 128 MiB, and the rest 24 MiB. openssl stops at 32 MiB.
const (
	maxPBKDF2Work = 4_000_000
	maxScryptWork = 1 << 20
	minScryptN    = 16
	maxScryptSalt = 128 // bytes; scrypt hashes the salt again for every 32 of 128*r*p bytes
)

// scryptMemory lets one key be derived at a time, so that several keys do not take several times the memory.
var scryptMemory sync.Mutex

// youmark/pkcs8 derives with SHA-1 and SHA-256 only, does not know the optional key length, and has
// no bound on the cost; it lets a program bring its own functions, and these are ours.
func init() {
	pkcs8.RegisterKDF(objectID(1, 2, 840, 113549, 1, 5, 12), func() pkcs8.KDFParameters { return new(pbkdf2Params) })
	pkcs8.RegisterKDF(objectID(1, 3, 6, 1, 4, 1, 11591, 4, 11), func() pkcs8.KDFParameters { return new(scryptParams) })
}

func objectID(arcs ...int) asn1.ObjectIdentifier { return arcs }

// prfs are the pseudo-random functions that openssl offers, by object identifier.
var prfs = map[string]struct {
	name string
	hash func() hash.Hash
}{
	"":                    {"hmacWithSHA1", sha1.New}, // RFC 8018's default, written as an absent field
	"1.2.840.113549.2.6":  {"hmacWithMD5", md5.New},
	"1.2.840.113549.2.7":  {"hmacWithSHA1", sha1.New},
	"1.2.840.113549.2.8":  {"hmacWithSHA224", sha256.New224},
	"1.2.840.113549.2.9":  {"hmacWithSHA256", sha256.New},
	"1.2.840.113549.2.10": {"hmacWithSHA384", sha512.New384},
	"1.2.840.113549.2.11": {"hmacWithSHA512", sha512.New},
	"1.2.840.113549.2.12": {"hmacWithSHA512-224", sha512.New512_224},
	"1.2.840.113549.2.13": {"hmacWithSHA512-256", sha512.New512_256},
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
		return tooCostly(p, fmt.Sprintf("at most %d", limit))
	}
	return nil
}

// costOf is what an iteration for a key of size bytes counts.
func costOf(h hash.Hash, size int) int {
	hashes := (size + h.Size() - 1) / h.Size()
	return hashes * h.BlockSize() / sha256.BlockSize
}

// DeriveKey implements pkcs8.KDFParameters.
func (p *pbkdf2Params) DeriveKey(passphrase []byte, size int) ([]byte, error) {
	if err := p.examine(size); err != nil {
		return nil, err
	}
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
		return tooCostly(p, fmt.Sprintf("N*r*p at most %d", maxScryptWork))
	}
	if len(p.Salt) > maxScryptSalt {
		return tooCostly(p, fmt.Sprintf("a salt of at most %d bytes", maxScryptSalt))
	}
	return nil
}

// DeriveKey implements pkcs8.KDFParameters.
func (p *scryptParams) DeriveKey(passphrase []byte, size int) ([]byte, error) {
	if err := p.examine(size); err != nil {
		return nil, err
	}
	scryptMemory.Lock()
	defer scryptMemory.Unlock()
	defer runtime.GC() // before the next key or the next try allocates as much again
	return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
}

func tooCostly(what kdf, limit string) error {
	return unreadable(fmt.Errorf("the key is encrypted with %s, more than is run here (%s)", what, limit),
		"encrypt it again with: "+reencrypt)
}
