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

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/scrypt"
)

// The most a key may ask for. openssl's defaults are 2048 iterations and 16 MiB, today's advice is
// 600,000 iterations, and openssl itself stops at 32 MiB; ten million take about two seconds here.
const (
	maxIterations   = 10_000_000
	maxScryptMemory = 64 << 20
	maxScryptWork   = 16 // of maxScryptMemory, in passes over it
)

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

func (p *pbkdf2Params) examine(int) error {
	oid := p.PRF.OID.String()
	prf := prfs[oid]
	if prf.hash == nil {
		return refuse(oid)
	}
	if p.Iterations < 1 || p.Iterations > maxIterations {
		return tooCostly(p, fmt.Sprintf("at most %d", maxIterations))
	}
	return nil
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
	if p.N < 2 || p.R < 1 || p.P < 1 {
		return damaged("scrypt")
	}
	// Divided, not multiplied: the product of hostile numbers wraps around.
	if p.R > maxScryptMemory/128/p.N || p.P > maxScryptWork {
		return tooCostly(p, fmt.Sprintf("at most %d MiB (128*N*r) and p=%d", maxScryptMemory>>20, maxScryptWork))
	}
	return nil
}

// DeriveKey implements pkcs8.KDFParameters.
func (p *scryptParams) DeriveKey(passphrase []byte, size int) ([]byte, error) {
	if err := p.examine(size); err != nil {
		return nil, err
	}
	return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
}

func tooCostly(what kdf, limit string) error {
	return unreadable(fmt.Errorf("the key is encrypted with %s, more than is run here (%s)", what, limit),
		"encrypt it again with: "+reencrypt)
}
