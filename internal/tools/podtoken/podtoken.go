// Package podtoken makes service account tokens as a cluster's API server does, and puts them where a container finds
// them, as the kubelet does. Only tests import it.
//
// It never talks to a cluster, and its tokens are good for nothing but a server that trusts its key.
package podtoken

import (
	"crypto/rsa"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// An Issuer signs the tokens of one cluster.
type Issuer struct {
	URL string // such as https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF
	Key *rsa.PrivateKey
}

// A Token has the claims of a token.
type Token struct {
	Subject  string // system:serviceaccount:NAMESPACE:NAME
	Audience string
	Issued   time.Time
	Expires  time.Time // none if zero
}

// Sign makes the JWT.
func (i Issuer) Sign(t Token) (string, error) {
	claims := jwt.RegisteredClaims{
		Issuer: i.URL, Subject: t.Subject, Audience: jwt.ClaimStrings{t.Audience},
		IssuedAt: jwt.NewNumericDate(t.Issued), NotBefore: jwt.NewNumericDate(t.Issued),
	}
	if !t.Expires.IsZero() {
		claims.ExpiresAt = jwt.NewNumericDate(t.Expires)
	}
	return jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(i.Key)
}

// A Volume is a projected volume: a directory whose file is a link into the directory that ..data names. Each token is in a
// directory of its own, and the kubelet replaces ..data by a rename, so that a reader has the old token or the new one.
type Volume struct {
	dir, file string
	mode      fs.FileMode
	written   int
}

// NewVolume makes an empty volume. The mode is the token's: 0600 for a pod with one user, 0640 with fsGroup.
func NewVolume(dir, file string, mode fs.FileMode) *Volume {
	return &Volume{dir: dir, file: file, mode: mode}
}

// Path is the token's, which stays the same.
func (v *Volume) Path() string { return filepath.Join(v.dir, v.file) }

// Write replaces the token.
func (v *Volume) Write(token string) error {
	data := filepath.Join(v.dir, "..data")
	before, _ := os.Readlink(data) // none at first
	v.written++
	now := fmt.Sprintf("..%s.%d", time.Now().UTC().Format("2006_01_02_15_04_05"), v.written)
	directory := filepath.Join(v.dir, now)
	if err := os.Mkdir(directory, 0o755); err != nil {
		return err
	}
	file := filepath.Join(directory, v.file)
	if err := os.WriteFile(file, []byte(token), v.mode); err != nil {
		return err
	}
	if err := os.Chmod(file, v.mode); err != nil {
		return err
	}
	next := filepath.Join(v.dir, "..data_tmp")
	if err := os.Symlink(now, next); err != nil {
		return err
	}
	if err := os.Rename(next, data); err != nil {
		return err
	}
	if before != "" {
		return os.RemoveAll(filepath.Join(v.dir, before))
	}
	return os.Symlink(filepath.Join("..data", v.file), v.Path())
}
